// The way from a ring of buffers to a device.
#ifndef SUITES_CHECKPOINT_INTERNAL_UPLOAD_TRANSPORT_H_
#define SUITES_CHECKPOINT_INTERNAL_UPLOAD_TRANSPORT_H_

#include <cstddef>
#include <memory>

namespace suites::internal {

class UploadTransport {
 public:
  virtual ~UploadTransport() = default;
  // By the calling thread of Upload(): copies that follow must not overtake what
  // its current stream was given before, ...
  virtual void Begin() = 0;
  // ... and what the stream is given from now on must wait for the copies.
  virtual void End() = 0;
  // The host waits for all copies.
  virtual void Wait() = 0;

  // By any thread. The thread has buffer `i` to itself from Acquire(), which waits
  // until its last copies have been made, to Release(), which follows them.
  virtual std::byte* Acquire(std::size_t i) = 0;
  virtual void Copy(void* to, const void* from, std::size_t bytes) = 0;
  virtual void Release(std::size_t i) = 0;
};

// Throws std::runtime_error: no pinned memory, or a build without device code.
std::unique_ptr<UploadTransport> MakeCudaTransport(int device, std::size_t buffers, std::size_t buffer_bytes);
std::unique_ptr<UploadTransport> MakeCpuTransport(std::size_t buffers, std::size_t buffer_bytes);

}  // namespace suites::internal

#endif  // SUITES_CHECKPOINT_INTERNAL_UPLOAD_TRANSPORT_H_
