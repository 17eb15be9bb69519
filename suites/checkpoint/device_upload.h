// Tensors of a mapped checkpoint to a device, at the rate of the disk or the bus.
#ifndef SUITES_CHECKPOINT_DEVICE_UPLOAD_H_
#define SUITES_CHECKPOINT_DEVICE_UPLOAD_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace suites {

struct UploadOptions {
  int threads = 0;                                  // that read; 0: as many as there are cores, at most 16
  int buffers = 24;                                 // pinned ones, at least 1
  std::size_t buffer_bytes = std::size_t{4} << 20;  // of each; at least 64
  // To the CPU through ordinary buffers in place of pinned ones: the way that a
  // device takes, for tests.
  bool stage_on_cpu = false;
};

struct UploadStats {
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
  // Inside Upload() and Wait(). Copies may still be on their way when Upload()
  // returns: the rate is that of the upload after Wait().
  double seconds = 0;
  double BytesPerSecond() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

// Threads copy pieces of the tensors into a ring of pinned buffers; each buffer
// goes to the device asynchronously, on a stream of the uploader's own. What lies
// in a mapped file is read from the file (MappedFile::Read); other memory is
// copied. Small tensors share a buffer.
//
// To the CPU the threads copy straight into new tensors. One thread at a time
// may call an uploader.
class DeviceUploader {
 public:
  // Throws std::invalid_argument where the device is not there (with the reason)
  // or is neither CPU nor CUDA; std::runtime_error where no pinned memory is to be had.
  explicit DeviceUploader(at::Device device, const UploadOptions& options = {});
  ~DeviceUploader();
  DeviceUploader(const DeviceUploader&) = delete;
  DeviceUploader& operator=(const DeviceUploader&) = delete;

  // Contiguous copies on the device of CPU tensors, of any dtypes and sizes. Work
  // that is put on the calling thread's current stream afterwards finds the data:
  // the stream waits, the host does not. The tensors given are not needed any
  // longer when this returns. Many at once keep the threads busier than one by
  // one; the tensors of a decoder layer are a good number.
  // Throws CheckpointError (a file that cannot be read), c10::Error (no memory on
  // the device), std::runtime_error (a copy that fails); the uploader can be used on.
  std::vector<at::Tensor> Upload(std::span<const at::Tensor> tensors);
  at::Tensor Upload(const at::Tensor& mapped);

  // The host waits until all copies have arrived.
  void Wait();
  UploadStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace suites

#endif  // SUITES_CHECKPOINT_DEVICE_UPLOAD_H_
