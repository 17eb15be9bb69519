#include "suites/checkpoint/internal/upload_transport.h"

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

namespace suites::internal {
namespace {

class CpuTransport final : public UploadTransport {
 public:
  CpuTransport(std::size_t buffers, std::size_t buffer_bytes) : buffers_(buffers) {
    for (auto& buffer : buffers_) buffer.resize(buffer_bytes);
  }
  void Begin() override {}
  void End() override {}
  void Wait() override {}
  std::byte* Acquire(std::size_t i) override { return buffers_[i].data(); }
  void Copy(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void Release(std::size_t) override {}

 private:
  std::vector<std::vector<std::byte>> buffers_;
};

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("upload to the device: ") + what + ": " + cudaGetErrorString(error));
}

class CudaTransport final : public UploadTransport {
 public:
  CudaTransport(int device, std::size_t buffers, std::size_t buffer_bytes) : device_(device) {
    const c10::cuda::CUDAGuard guard(Index());
    try {
      Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
      Check(cudaEventCreateWithFlags(&order_, cudaEventDisableTiming), "an event");
      buffers_.resize(buffers);
      for (Buffer& buffer : buffers_) {
        void* memory = nullptr;
        Check(cudaHostAlloc(&memory, buffer_bytes, cudaHostAllocDefault), "pinned memory");
        buffer.memory = static_cast<std::byte*>(memory);
        Check(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "an event");
      }
    } catch (...) {
      Free();
      throw;
    }
  }
  ~CudaTransport() override { Free(); }

  void Begin() override {
    Check(cudaEventRecord(order_, c10::cuda::getCurrentCUDAStream(Index()).stream()), "cudaEventRecord");
    Check(cudaStreamWaitEvent(stream_, order_, 0), "cudaStreamWaitEvent");
  }
  void End() override {
    Check(cudaEventRecord(order_, stream_), "cudaEventRecord");
    Check(cudaStreamWaitEvent(c10::cuda::getCurrentCUDAStream(Index()).stream(), order_, 0), "cudaStreamWaitEvent");
  }
  void Wait() override { Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  std::byte* Acquire(std::size_t i) override {
    Check(cudaSetDevice(device_), "cudaSetDevice");  // of this thread
    Check(cudaEventSynchronize(buffers_[i].copied), "cudaEventSynchronize");
    return buffers_[i].memory;
  }
  void Copy(void* to, const void* from, std::size_t bytes) override {
    Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
  }
  void Release(std::size_t i) override { Check(cudaEventRecord(buffers_[i].copied, stream_), "cudaEventRecord"); }

 private:
  struct Buffer {
    std::byte* memory = nullptr;
    cudaEvent_t copied = nullptr;
  };

  c10::DeviceIndex Index() const { return static_cast<c10::DeviceIndex>(device_); }
  void Free() {
    if (stream_ != nullptr) cudaStreamSynchronize(stream_);  // buffers may be on their way
    for (const Buffer& buffer : buffers_) {
      if (buffer.copied != nullptr) cudaEventDestroy(buffer.copied);
      if (buffer.memory != nullptr) cudaFreeHost(buffer.memory);
    }
    if (order_ != nullptr) cudaEventDestroy(order_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  int device_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t order_ = nullptr;
  std::vector<Buffer> buffers_;
};

#endif

}  // namespace

std::unique_ptr<UploadTransport> MakeCpuTransport(std::size_t buffers, std::size_t buffer_bytes) {
  return std::make_unique<CpuTransport>(buffers, buffer_bytes);
}

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
std::unique_ptr<UploadTransport> MakeCudaTransport(int device, std::size_t buffers, std::size_t buffer_bytes) {
  return std::make_unique<CudaTransport>(device, buffers, buffer_bytes);
}
#else
std::unique_ptr<UploadTransport> MakeCudaTransport(int, std::size_t, std::size_t) {
  throw std::runtime_error("upload to the device: this build has no device code");
}
#endif

}  // namespace suites::internal
