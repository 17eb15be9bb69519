#include "suites/model/cuda/decode_graph.h"

#include <c10/cuda/CUDACachingAllocator.h>

#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>

namespace suites::internal {
namespace {

// Apart from the pools of libtorch's own graphs, which count from one.
c10::MempoolId_t NextPool() {
  static std::atomic<c10::CaptureId_t> next{1};
  return {c10::CaptureId_t{1} << 40, next++};
}

// libtorch keeps the memory of a pool that nobody uses any longer, and with each one that it keeps
// the next capture costs twice as much: with 25 graphs gone, a second and 5 GB of host memory.
// So a pool's memory is given back with its graph.
void ReleasePool(c10::DeviceIndex device, c10::MempoolId_t pool) noexcept {
  try {
    c10::cuda::CUDACachingAllocator::get()->releasePool(device, pool);
    c10::cuda::CUDACachingAllocator::get()->emptyCache(pool);
  } catch (const std::exception&) {
    cudaGetLastError();  // it stays where it is
  }
}

}  // namespace

void CheckCudaCall(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

DecodeGraph::DecodeGraph(const c10::cuda::CUDAStream& stream, const std::function<void()>& record)
    : device_(stream.device_index()), pool_(NextPool()) {
  namespace allocator = c10::cuda::CUDACachingAllocator;
  const cudaStream_t captured = stream.stream();
  allocator::beginAllocateToPool(device_, pool_, [captured](cudaStream_t other) { return other == captured; });
  std::exception_ptr failure;
  cudaError_t error = cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal);
  if (error == cudaSuccess) {
    try {
      record();
    } catch (...) {
      failure = std::current_exception();
    }
    error = cudaStreamEndCapture(captured, &graph_);
  }
  allocator::endAllocateToPool(device_, pool_);
  if (failure == nullptr && error == cudaSuccess) error = cudaGraphInstantiate(&executable_, graph_, 0);
  if (failure == nullptr && error == cudaSuccess) return;
  if (graph_ != nullptr) cudaGraphDestroy(graph_);
  cudaGetLastError();  // a failed capture leaves one behind
  ReleasePool(device_, pool_);
  if (failure != nullptr) std::rethrow_exception(failure);
  CheckCudaCall(error, "capture of a decode step");
}

DecodeGraph::~DecodeGraph() {
  if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  if (graph_ != nullptr) cudaGraphDestroy(graph_);
  step.kept.clear();
  ReleasePool(device_, pool_);
}

void DecodeGraph::Launch(cudaStream_t stream) const {
  CheckCudaCall(cudaGraphLaunch(executable_, stream), "launch of a decode step");
}

}  // namespace suites::internal
