#include "suites/checkpoint/read_ahead.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <new>
#include <string>
#include <system_error>

#include "suites/checkpoint/safetensors.h"
#include "suites/checkpoint/upload_rates.h"

namespace suites {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{4} << 20;

// MemAvailable; as if without bound where the system does not say.
std::uint64_t AvailableMemory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, unit;
  std::uint64_t kilobytes = 0;
  while (meminfo >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(meminfo, unit);
  }
  return std::numeric_limits<std::uint64_t>::max();
}

}  // namespace

ReadAhead::ReadAhead(const std::filesystem::path& model, int threads) {
  try {
    const auto paths = WeightFiles(model);
    std::uint64_t total = 0;
    for (const auto& path : paths) {
      files_.push_back(MappedFile::Open(path, 1, "weights"));
      const std::size_t size = files_.back()->bytes().size();
      total += size;
      for (std::size_t at = 0; at < size; at += kPieceBytes) {
        pieces_.push_back({files_.back().get(), at, std::min(kPieceBytes, size - at)});
      }
    }
    if (ResidentBytes(paths) >= total || total > AvailableMemory() / 2) return;
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  } catch (const CheckpointError&) {
    // The loader opens the same files and says what is wrong.
  } catch (const std::system_error&) {
    // No more threads: those that there are do it, or the loader alone.
  }
}

ReadAhead::~ReadAhead() {
  stop_ = true;
  Wait();
}

void ReadAhead::Wait() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ReadAhead::Work() {
  try {
    std::vector<std::byte> buffer(kPieceBytes);
    for (std::size_t i = next_++; i < pieces_.size() && !stop_; i = next_++) {
      pieces_[i].file->Read(pieces_[i].offset, pieces_[i].bytes, buffer.data());
      bytes_ += pieces_[i].bytes;
    }
  } catch (const CheckpointError&) {
    stop_ = true;
  } catch (const std::bad_alloc&) {
    // The other threads go on, or the loader alone.
  }
}

}  // namespace suites
