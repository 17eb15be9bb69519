#ifndef SUITES_DEVICE_CAPTURED_GRAPH_H_
#define SUITES_DEVICE_CAPTURED_GRAPH_H_

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <functional>

namespace suites {

// What `call` launches on the current device, captured once, after one call
// outside, on a stream of its own. Memory that is allocated meanwhile stays its.
class CapturedGraph {
 public:
  explicit CapturedGraph(const std::function<void()>& call) : stream_(c10::cuda::getStreamFromPool()) {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    C10_CUDA_CHECK(cudaDeviceSynchronize());
    call();
    C10_CUDA_CHECK(cudaStreamSynchronize(stream_));
    namespace allocator = c10::cuda::CUDACachingAllocator;
    const auto device = stream_.device_index();
    allocator::beginAllocateToPool(device, pool_, [this](cudaStream_t stream) { return stream == stream_.stream(); });
    cudaGraph_t graph = nullptr;
    C10_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
    call();
    C10_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    allocator::endAllocateToPool(device, pool_);
    C10_CUDA_CHECK(cudaGraphInstantiate(&graph_, graph, 0));
    C10_CUDA_CHECK(cudaGraphDestroy(graph));
  }
  ~CapturedGraph() {
    cudaStreamSynchronize(stream_);
    cudaGraphExecDestroy(graph_);
    c10::cuda::CUDACachingAllocator::releasePool(stream_.device_index(), pool_);
  }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void Replay() const { Replay(stream_); }
  // On another stream of the device: replays must not overlap, since they share their memory.
  void Replay(cudaStream_t stream) const { C10_CUDA_CHECK(cudaGraphLaunch(graph_, stream)); }
  void Synchronize() const { stream_.synchronize(); }
  c10::cuda::CUDAStream stream() const { return stream_; }

 private:
  static std::uint64_t NextPool() {
    static std::atomic<std::uint64_t> next{std::uint64_t{1} << 32};  // torch's own count from 1
    return next++;
  }

  c10::cuda::CUDAStream stream_;
  const c10::MempoolId_t pool_ = {0, NextPool()};
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace suites

#endif  // SUITES_DEVICE_CAPTURED_GRAPH_H_
