// Brings the weight files of a model into the page cache with several threads,
// ahead of a loader that reads their mapping with one.
#ifndef SUITES_CHECKPOINT_READ_AHEAD_H_
#define SUITES_CHECKPOINT_READ_AHEAD_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "suites/checkpoint/mapped_file.h"

namespace suites {

class ReadAhead {
 public:
  // Begins at once, file after file. Does nothing where the files are in the page
  // cache already, or where they would take more than half of the memory that the
  // system has available: what is read first would be gone when it is needed.
  // Never throws for a file that cannot be read: the loader says so.
  explicit ReadAhead(const std::filesystem::path& model, int threads = 4);
  ~ReadAhead();  // stops
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  void Wait();  // until all of it is read
  std::uint64_t bytes_read() const { return bytes_; }

 private:
  struct Piece {
    const MappedFile* file;
    std::uint64_t offset;
    std::size_t bytes;
  };
  void Work();

  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<Piece> pieces_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace suites

#endif  // SUITES_CHECKPOINT_READ_AHEAD_H_
