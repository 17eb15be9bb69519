// What bounds an upload: the rate of the disk, of the page cache and of the bus.
#ifndef SUITES_CHECKPOINT_UPLOAD_RATES_H_
#define SUITES_CHECKPOINT_UPLOAD_RATES_H_

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace suites {

struct TransferRate {
  std::uint64_t bytes = 0;
  double seconds = 0;
  double BytesPerSecond() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

// The weight files of a model folder (or the file itself), sorted.
std::vector<std::filesystem::path> WeightFiles(const std::filesystem::path& model);

// Asks the system to drop the files from the page cache: writes back what is not
// on the disk, then posix_fadvise(DONTNEED). A system may keep them all the same,
// and does where they are mapped and read; ResidentBytes() tells.
void DropFromPageCache(const std::vector<std::filesystem::path>& files);
// How many bytes of the files are in the page cache (mincore).
std::uint64_t ResidentBytes(const std::vector<std::filesystem::path>& files);

// Reads the files whole, `threads` at a time in pieces of `piece_bytes`, into memory
// that is thrown away. From the disk or the page cache, wherever they are.
// Throws CheckpointError.
TransferRate ReadRate(const std::vector<std::filesystem::path>& files, int threads, std::size_t piece_bytes);

// The best of `rounds` copies of `bytes` from pinned memory to the device; to the
// CPU from memory to memory. Throws std::invalid_argument where there is no such device.
TransferRate BusRate(at::Device device, std::size_t bytes, int rounds);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_UPLOAD_RATES_H_
