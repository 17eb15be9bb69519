#include "suites/checkpoint/upload_rates.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "kernels/torch_cuda.h"
#include "suites/checkpoint/internal/upload_transport.h"
#include "suites/checkpoint/mapped_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Piece {
  const MappedFile* file;
  std::uint64_t offset;
  std::size_t bytes;
};

}  // namespace

std::vector<fs::path> WeightFiles(const fs::path& model) {
  std::error_code error;
  if (!fs::is_directory(model, error)) return {model};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".safetensors" || extension == ".bin") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) throw CheckpointError(model.string() + ": no .safetensors or .bin file");
  return files;
}

void DropFromPageCache(const std::vector<fs::path>& files) {
  for (const fs::path& path : files) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    fdatasync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

std::uint64_t ResidentBytes(const std::vector<fs::path>& files) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::uint64_t pages = 0;
  for (const fs::path& path : files) {
    const auto mapped = MappedFile::Open(path, 1, "weights");
    std::vector<unsigned char> resident((mapped->bytes().size() + page - 1) / page);
    void* const begin = const_cast<std::byte*>(mapped->bytes().data());
    if (mincore(begin, mapped->bytes().size(), resident.data()) != 0) continue;
    pages += static_cast<std::uint64_t>(std::count_if(resident.begin(), resident.end(), [](auto p) { return p & 1; }));
  }
  return pages * page;
}

TransferRate ReadRate(const std::vector<fs::path>& files, int threads, std::size_t piece_bytes) {
  std::vector<std::shared_ptr<const MappedFile>> open_files;
  std::vector<Piece> pieces;
  TransferRate rate;
  for (const fs::path& path : files) {
    open_files.push_back(MappedFile::Open(path, 1, "weights"));
    const std::size_t size = open_files.back()->bytes().size();
    for (std::size_t at = 0; at < size; at += piece_bytes) {
      pieces.push_back({open_files.back().get(), at, std::min(piece_bytes, size - at)});
    }
    rate.bytes += size;
  }
  std::atomic<std::size_t> next = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  // Set to zero here, so that no page of them is new while the clock runs.
  std::vector<std::vector<std::byte>> buffers(static_cast<std::size_t>(threads), std::vector<std::byte>(piece_bytes));
  const auto work = [&](std::byte* buffer) {
    try {
      for (std::size_t i = next++; i < pieces.size(); i = next++) {
        pieces[i].file->Read(pieces[i].offset, pieces[i].bytes, buffer);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  const auto start = Clock::now();
  {
    std::vector<std::jthread> workers;
    for (auto& buffer : buffers) workers.emplace_back(work, buffer.data());
  }
  rate.seconds = SecondsSince(start);
  if (failure) std::rethrow_exception(failure);
  return rate;
}

TransferRate BusRate(at::Device device, std::size_t bytes, int rounds) {
  const auto transport = device.is_cuda()
                             ? internal::MakeCudaTransport(kernels::CudaDeviceIndex(device.str()), 1, bytes)
                             : internal::MakeCpuTransport(1, bytes);
  const at::Tensor target =
      at::empty({static_cast<std::int64_t>(bytes)}, at::TensorOptions().dtype(at::kByte).device(device));
  std::byte* const buffer = transport->Acquire(0);
  std::memset(buffer, 1, bytes);
  TransferRate best;
  transport->Begin();
  for (int round = 0; round <= rounds; ++round) {  // the first warms up
    const auto start = Clock::now();
    transport->Copy(target.mutable_data_ptr(), buffer, bytes);
    transport->Wait();
    const double seconds = SecondsSince(start);
    if (round > 0 && (best.seconds == 0 || seconds < best.seconds)) best = {bytes, seconds};
  }
  transport->Release(0);
  return best;
}

}  // namespace suites
