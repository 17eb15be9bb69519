#include <algorithm>
#include <iterator>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/internal/cuda_check.h"

namespace gtest_determinism::internal {

class LaunchModes::Impl {
 public:
  Impl(std::vector<LaunchMode> cycle, int device) : cycle_(std::move(cycle)), device_(device) {
    if (cycle_.empty()) throw std::invalid_argument("a cycle of launch modes has at least one");
  }

  ~Impl() {
    for (const cudaStream_t stream : streams_) {
      if (stream != nullptr) cudaStreamDestroy(stream);
    }
  }

  void Begin() {
    CudaMemory(device_);  // a clear error where there is no such device
    const DeviceScope scope(device_);
    if (streams_[0] == nullptr) {
      for (cudaStream_t& stream : streams_) {
        CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
      }
    }
    mode_ = cycle_[run_++ % cycle_.size()];
    current_ = mode_ == LaunchMode::kOtherStream ? streams_[1 + others_++ % (std::size(streams_) - 1)] : streams_[0];
    if (mode_ == LaunchMode::kGraph) {
      CheckCuda(cudaStreamBeginCapture(current_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    }
  }

  cudaStream_t stream() const { return current_; }

  void End() {
    const DeviceScope scope(device_);
    if (mode_ == LaunchMode::kGraph) {
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t executable = nullptr;
      CheckCuda(cudaStreamEndCapture(current_, &graph), "cudaStreamEndCapture");
      const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
      cudaGraphDestroy(graph);
      CheckCuda(made, "cudaGraphInstantiate");
      cudaError_t ran = cudaGraphLaunch(executable, current_);
      if (ran == cudaSuccess) ran = cudaStreamSynchronize(current_);
      cudaGraphExecDestroy(executable);
      CheckCuda(ran, "running a graph");
      return;
    }
    CheckCuda(cudaStreamSynchronize(current_), "cudaStreamSynchronize");
  }

  void Abandon() noexcept {
    if (mode_ != LaunchMode::kGraph) return;
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(current_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
  }

 private:
  const std::vector<LaunchMode> cycle_;
  const int device_;
  std::size_t run_ = 0, others_ = 0;
  LaunchMode mode_ = LaunchMode::kEager;
  cudaStream_t current_ = nullptr;
  cudaStream_t streams_[4] = {};
};

LaunchModes::LaunchModes(std::vector<LaunchMode> cycle, int device)
    : impl_(std::make_shared<Impl>(std::move(cycle), device)) {}
void LaunchModes::Begin() const { impl_->Begin(); }
cudaStream_t LaunchModes::stream() const { return impl_->stream(); }
void LaunchModes::End() const { impl_->End(); }
void LaunchModes::Abandon() const noexcept { impl_->Abandon(); }

}  // namespace gtest_determinism::internal
