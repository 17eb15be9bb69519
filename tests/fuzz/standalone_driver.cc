// Runs a harness without libFuzzer: every file of the folders given, then a
// bounded number of mutations of them. Any compiler builds it; it knows no
// coverage, so it finds less than libFuzzer.
//
//   fuzz_zip -runs=20000 -seed=1 FOLDER...
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

// Written before each run where the environment names a file: the input that
// a crash leaves behind.
const char* const last_input = std::getenv("FUZZ_LAST_INPUT");

void Run(const Bytes& input) {
  if (last_input != nullptr) {
    std::ofstream(last_input, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  }
  // An allocation of exactly this size, so that AddressSanitizer sees a read behind it.
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[input.size()]);
  std::copy(input.begin(), input.end(), exact.get());
  LLVMFuzzerTestOneInput(exact.get(), input.size());
}

class Mutator {
 public:
  Mutator(std::uint64_t seed, const std::vector<Bytes>& seeds) : random_(seed), seeds_(seeds) {}

  Bytes Next() {
    Bytes bytes = seeds_[Below(seeds_.size())];
    for (std::size_t i = 1 + Below(4); i > 0; --i) Mutate(bytes);
    return bytes;
  }

 private:
  std::size_t Below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random_() % n); }

  void Mutate(Bytes& bytes) {
    static constexpr std::uint8_t kOdd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '[', ']', ',', '-', '9', '\\'};
    const std::size_t at = Below(bytes.size() + 1);
    const auto there = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const std::size_t length = std::min(Below(16) + 1, bytes.size() - at);
    switch (Below(8)) {
      case 0:
        if (at < bytes.size()) bytes[at] ^= static_cast<std::uint8_t>(1U << Below(8));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = kOdd[Below(std::size(kOdd))];
        break;
      case 2:
        bytes.insert(there, kOdd[Below(std::size(kOdd))]);
        break;
      case 3:
        bytes.erase(there, there + static_cast<std::ptrdiff_t>(length));
        break;
      case 4: {  // a piece twice
        const Bytes piece(there, there + static_cast<std::ptrdiff_t>(length));
        bytes.insert(there, piece.begin(), piece.end());
        break;
      }
      case 5: {  // a piece of another seed
        const Bytes& other = seeds_[Below(seeds_.size())];
        const std::size_t from = Below(other.size());
        const std::size_t count = std::min(Below(64) + 1, other.size() - from);
        const auto begin = other.begin() + static_cast<std::ptrdiff_t>(from);
        bytes.insert(there, begin, begin + static_cast<std::ptrdiff_t>(count));
        break;
      }
      case 6:  // a number with odd bits, little-endian
        for (std::size_t i = 0, size = std::size_t{1} << Below(4); i < size && at + i < bytes.size(); ++i) {
          bytes[at + i] = Below(2) == 0 ? 0xff : kOdd[Below(5)];
        }
        break;
      default:
        if (Below(8) == 0) bytes.resize(at);  // cut short
    }
  }

  std::mt19937_64 random_;
  const std::vector<Bytes>& seeds_;
};

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t runs = 0;
  std::uint64_t seed = 1;
  std::vector<Bytes> seeds;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "-runs=", 6) == 0) {
      runs = std::strtoull(argv[i] + 6, nullptr, 10);
    } else if (std::strncmp(argv[i], "-seed=", 6) == 0) {
      seed = std::strtoull(argv[i] + 6, nullptr, 10);
    } else {
      std::vector<std::filesystem::path> files;
      if (std::filesystem::is_directory(argv[i])) {
        for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
      } else {
        files.emplace_back(argv[i]);
      }
      std::sort(files.begin(), files.end());
      for (const auto& path : files) {
        std::ifstream file(path, std::ios::binary);
        if (!file) {
          std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
          return 2;
        }
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      }
    }
  }
  if (seeds.empty()) {
    std::fprintf(stderr, "usage: %s [-runs=N] [-seed=N] FOLDER_OR_FILE...\n", argv[0]);
    return 2;
  }
  Run({});
  for (const Bytes& bytes : seeds) Run(bytes);
  Mutator mutator(seed, seeds);
  for (std::uint64_t i = 0; i < runs; ++i) Run(mutator.Next());
  std::printf("%zu files and %llu mutations of them: no finding\n", seeds.size(),
              static_cast<unsigned long long>(runs));
  return 0;
}
