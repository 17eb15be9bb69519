#include "suites/checkpoint/device_upload.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "kernels/torch_cuda.h"
#include "suites/checkpoint/internal/upload_transport.h"
#include "suites/checkpoint/mapped_file.h"

namespace suites {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kAlignment = 64;  // of a piece inside a buffer

// Bytes of one tensor that go through one buffer.
struct Piece {
  const std::byte* from = nullptr;
  MappedFile::Place place;  // of `from`; no file: read from memory
  std::byte* to = nullptr;
  std::size_t bytes = 0;
  std::size_t at = 0;  // in the buffer
};
using Load = std::vector<Piece>;  // of one buffer

void ReadPiece(const Piece& piece, std::byte* to) {
  if (piece.place.file != nullptr) {
    piece.place.file->Read(piece.place.offset, piece.bytes, to);
  } else {
    std::memcpy(to, piece.from, piece.bytes);
  }
}

// Fills buffers one after the other, so that small tensors share one.
class Loads {
 public:
  explicit Loads(std::size_t buffer_bytes) : buffer_bytes_(buffer_bytes) {}

  void Add(const at::Tensor& from, const at::Tensor& to) {
    const auto bytes = static_cast<std::size_t>(from.nbytes());
    if (bytes == 0) return;
    const auto* const source = static_cast<const std::byte*>(from.const_data_ptr());
    auto* const target = static_cast<std::byte*>(to.mutable_data_ptr());
    MappedFile::Place place = MappedFile::Find(source, bytes).value_or(MappedFile::Place{});
    for (std::size_t done = 0; done < bytes;) {
      std::size_t at = (used_ + kAlignment - 1) / kAlignment * kAlignment;
      if (loads_.empty() || at >= buffer_bytes_) {
        loads_.emplace_back();
        at = 0;
      }
      const std::size_t size = std::min(bytes - done, buffer_bytes_ - at);
      loads_.back().push_back({source + done, {place.file, place.offset + done}, target + done, size, at});
      used_ = at + size;
      done += size;
    }
  }
  std::vector<Load> Take() { return std::move(loads_); }

 private:
  std::size_t buffer_bytes_;
  std::size_t used_ = 0;  // of the last load
  std::vector<Load> loads_;
};

}  // namespace

class DeviceUploader::Impl {
 public:
  Impl(at::Device device, const UploadOptions& options) : device_(device), options_(options) {
    if (options.threads < 0 || options.buffers < 1 || options.buffer_bytes < kAlignment) {
      throw std::invalid_argument("upload: at least one buffer and 64 bytes are needed");
    }
    const auto buffers = static_cast<std::size_t>(options.buffers);
    if (device.is_cuda()) {
      const int index = kernels::CudaDeviceIndex(device.str());  // throws where there is none
      device_ = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
      transport_ = internal::MakeCudaTransport(index, buffers, options.buffer_bytes);
    } else if (!device.is_cpu()) {
      throw std::invalid_argument("upload: device " + device.str() + " is neither a CPU nor CUDA");
    } else if (options.stage_on_cpu) {
      transport_ = internal::MakeCpuTransport(buffers, options.buffer_bytes);
    }
    for (std::size_t i = 0; i < buffers; ++i) free_.push_back(i);
    try {
      const int cores = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
      const int threads = options.threads > 0 ? options.threads : cores;
      for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
    } catch (const std::system_error&) {
      if (threads_.empty()) throw;  // else as many as the system gives
    }
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::vector<at::Tensor> Upload(std::span<const at::Tensor> tensors) {
    const auto start = Clock::now();
    Loads loads(options_.buffer_bytes);
    std::vector<at::Tensor> uploaded, sources;
    for (const at::Tensor& tensor : tensors) {
      sources.push_back(tensor.contiguous());
      uploaded.push_back(at::empty(tensor.sizes(), tensor.options().device(device_)));
      loads.Add(sources.back(), uploaded.back());
    }
    if (transport_ != nullptr) transport_->Begin();
    Run(loads.Take());
    if (transport_ != nullptr) transport_->End();
    stats_.tensors += tensors.size();
    for (const at::Tensor& tensor : uploaded) stats_.bytes += static_cast<std::uint64_t>(tensor.nbytes());
    stats_.seconds += SecondsSince(start);
    return uploaded;
  }

  void Wait() {
    const auto start = Clock::now();
    if (transport_ != nullptr) transport_->Wait();
    stats_.seconds += SecondsSince(start);
  }
  UploadStats stats() const { return stats_; }

 private:
  static double SecondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  // Until every load is on its way, or one failed and no thread is at another.
  void Run(std::vector<Load> loads) {
    std::unique_lock lock(mutex_);
    failure_ = nullptr;
    left_ = loads.size();
    for (Load& load : loads) queue_.push_back(std::move(load));
    wake_.notify_all();
    done_.wait(lock, [this] { return left_ == 0; });
    if (failure_) {
      lock.unlock();
      if (transport_ != nullptr) transport_->Wait();  // into tensors that now go
      std::rethrow_exception(failure_);
    }
  }

  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || (!queue_.empty() && (transport_ == nullptr || !free_.empty())); });
      if (stop_) return;
      const Load load = std::move(queue_.front());
      queue_.pop_front();
      const bool failed = failure_ != nullptr;  // the rest of the loads is dropped
      std::size_t buffer = 0;
      if (transport_ != nullptr) {
        buffer = free_.front();  // the one that was sent first
        free_.pop_front();
      }
      lock.unlock();
      std::exception_ptr failure;
      try {
        if (!failed) Send(load, buffer);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure && !failure_) failure_ = failure;
      if (transport_ != nullptr) free_.push_back(buffer);
      wake_.notify_one();
      if (--left_ == 0) done_.notify_one();
    }
  }

  void Send(const Load& load, std::size_t buffer) {
    if (transport_ == nullptr) {
      for (const Piece& piece : load) ReadPiece(piece, piece.to);
      return;
    }
    std::byte* const memory = transport_->Acquire(buffer);
    for (const Piece& piece : load) {
      ReadPiece(piece, memory + piece.at);
      transport_->Copy(piece.to, memory + piece.at, piece.bytes);
    }
    transport_->Release(buffer);
  }

  at::Device device_;
  UploadOptions options_;
  UploadStats stats_;
  std::unique_ptr<internal::UploadTransport> transport_;  // null: straight into tensors of the CPU
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Load> queue_;
  std::deque<std::size_t> free_;  // buffers that no thread holds, the longest sent first
  std::size_t left_ = 0;          // loads of this Upload() that are not done
  bool stop_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

DeviceUploader::DeviceUploader(at::Device device, const UploadOptions& options)
    : impl_(std::make_unique<Impl>(device, options)) {}
DeviceUploader::~DeviceUploader() = default;
std::vector<at::Tensor> DeviceUploader::Upload(std::span<const at::Tensor> tensors) { return impl_->Upload(tensors); }
at::Tensor DeviceUploader::Upload(const at::Tensor& mapped) { return impl_->Upload({&mapped, 1}).front(); }
void DeviceUploader::Wait() { impl_->Wait(); }
UploadStats DeviceUploader::stats() const { return impl_->stats(); }

}  // namespace suites
