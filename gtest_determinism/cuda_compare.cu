#include <algorithm>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/cuda_kernels.h"
#include "gtest_determinism/internal/cuda_launch.cuh"

namespace gtest_determinism {
namespace {

constexpr int kThreads = 256;
constexpr std::uint64_t kNone = ~std::uint64_t{0};

template <class Word>
struct Loads {
  static __device__ __forceinline__ Word Of(const Word* p) { return *p; }
  static __device__ __forceinline__ bool Differ(Word a, Word b) { return a != b; }
};
template <>
struct Loads<uint4> {
  static __device__ __forceinline__ uint4 Of(const uint4* p) { return __ldcs(p); }
  static __device__ __forceinline__ bool Differ(const uint4& a, const uint4& b) {
    return ((a.x ^ b.x) | (a.y ^ b.y) | (a.z ^ b.z) | (a.w ^ b.w)) != 0;
  }
};

__device__ std::uint64_t FirstByte(const unsigned char* a, const unsigned char* b, std::size_t from, std::size_t to) {
  for (std::size_t i = from; i < to; ++i) {
    if (a[i] != b[i]) return i;
  }
  return kNone;
}

// A block's share: of pieces of kThreads * kEach words each gridDim.x-th; the bytes
// behind the last word are the first block's. Whole warps come here.
template <class Word>
__device__ void CompareShare(const unsigned char* a, const unsigned char* b, std::size_t bytes, std::uint64_t* first) {
  constexpr int kEach = 4;
  const auto* wa = reinterpret_cast<const Word*>(a);
  const auto* wb = reinterpret_cast<const Word*>(b);
  const std::size_t words = bytes / sizeof(Word), step = static_cast<std::size_t>(kThreads) * kEach;
  std::uint64_t found = kNone;
  for (std::size_t base = blockIdx.x * step; base < words; base += gridDim.x * step) {
    Word x[kEach], y[kEach];
    if (base + step <= words) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        x[i] = Loads<Word>::Of(wa + base + i * kThreads + threadIdx.x);
        y[i] = Loads<Word>::Of(wb + base + i * kThreads + threadIdx.x);
      }
#pragma unroll
      for (int i = kEach - 1; i >= 0; --i) {
        if (!Loads<Word>::Differ(x[i], y[i])) continue;
        const std::size_t at = (base + i * kThreads + threadIdx.x) * sizeof(Word);
        found = min(found, FirstByte(a, b, at, at + sizeof(Word)));
      }
    } else {
      for (std::size_t i = base + threadIdx.x; i < words; i += kThreads) {
        if (!Loads<Word>::Differ(Loads<Word>::Of(wa + i), Loads<Word>::Of(wb + i))) continue;
        found = min(found, FirstByte(a, b, i * sizeof(Word), (i + 1) * sizeof(Word)));
      }
    }
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) found = min(found, FirstByte(a, b, words * sizeof(Word), bytes));
  // Rare, unless all differs: then one atomic for each warp.
  if (__any_sync(0xffffffffu, found != kNone)) {
    for (int offset = 16; offset > 0; offset /= 2) {
      found = min(found, static_cast<std::uint64_t>(__shfl_xor_sync(0xffffffffu, found, offset)));
    }
    if (threadIdx.x % 32 == 0) {
      atomicMin(reinterpret_cast<unsigned long long*>(first), static_cast<unsigned long long>(found));
    }
  }
}

template <class Word>
__global__ __launch_bounds__(kThreads) void compare_bytes(const unsigned char* a, const unsigned char* b,
                                                          std::size_t bytes, std::uint64_t* first) {
  CompareShare<Word>(a, b, bytes, first);
}

// The size of the widest words that a and b are both aligned for.
__host__ __device__ int WordBytes(const void* a, const void* b) {
  const auto low = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b);
  return low % 16 == 0 ? 16 : low % 4 == 0 ? 4 : low % 2 == 0 ? 2 : 1;
}

// Goes to the kernel with its arguments, so that no copy of it is waited for.
struct PairTable {
  static constexpr int kPairs = 128;
  struct Entry {
    const unsigned char *a, *b;
    std::uint32_t bytes, index;  // its result is first[index]
  };
  Entry entries[kPairs];
};

// Pair blockIdx.y, dealt out to gridDim.x blocks.
__global__ __launch_bounds__(kThreads) void compare_pairs(const __grid_constant__ PairTable table,
                                                          std::uint64_t* first) {
  const PairTable::Entry& pair = table.entries[blockIdx.y];
  std::uint64_t* const result = first + pair.index;
  switch (WordBytes(pair.a, pair.b)) {
    case 16:
      return CompareShare<uint4>(pair.a, pair.b, pair.bytes, result);
    case 4:
      return CompareShare<std::uint32_t>(pair.a, pair.b, pair.bytes, result);
    case 2:
      return CompareShare<std::uint16_t>(pair.a, pair.b, pair.bytes, result);
    default:
      return CompareShare<std::uint8_t>(pair.a, pair.b, pair.bytes, result);
  }
}

template <class Word>
void Compare(const void* a, const void* b, std::size_t bytes, std::uint64_t* first, cudaStream_t stream) {
  const std::size_t pieces = (bytes / sizeof(Word) + 4 * kThreads - 1) / (4 * kThreads);
  const auto blocks = static_cast<unsigned>(
      std::clamp<std::size_t>(pieces, 1, static_cast<std::size_t>(6 * internal::MultiprocessorCount())));
  internal::LaunchKernel("compare_bytes", compare_bytes<Word>, blocks, kThreads, stream,
                         static_cast<const unsigned char*>(a), static_cast<const unsigned char*>(b), bytes, first);
}

template <int kSize>
__device__ bool Holds(const unsigned char* p, std::uint8_t value) {
  bool all = true;
  for (int i = 0; i < kSize; ++i) all &= p[i] == value;
  return all;
}

template <int kSize>
__global__ void find_holding(const unsigned char* data, std::size_t elements, std::uint8_t value,
                             const std::int64_t* among, std::int64_t* indices, std::uint64_t capacity,
                             unsigned long long* count) {
  for (std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; i < elements;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    const std::int64_t element = among != nullptr ? among[i] : static_cast<std::int64_t>(i);
    if (!Holds<kSize>(data + static_cast<std::size_t>(element) * kSize, value)) continue;
    const unsigned long long at = atomicAdd(count, 1ull);
    if (at < capacity) indices[at] = element;
  }
}

__global__ __launch_bounds__(kThreads) void plain_read(const uint4* data, std::size_t words, std::uint32_t* sink) {
  std::uint32_t sum = 0;
  const std::size_t step = static_cast<std::size_t>(kThreads) * 8;
  for (std::size_t base = blockIdx.x * step; base + step <= words; base += gridDim.x * step) {
    uint4 v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = __ldcs(data + base + i * kThreads + threadIdx.x);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  }
  if (sum == 0x9e3779b9u) *sink = sum;  // hardly ever, but the reads cannot be dropped
}

}  // namespace

void LaunchCompare(const void* a, const void* b, std::size_t bytes, std::uint64_t* first, cudaStream_t stream) {
  if (bytes == 0) return;
  switch (WordBytes(a, b)) {
    case 16:
      Compare<uint4>(a, b, bytes, first, stream);
      break;
    case 4:
      Compare<std::uint32_t>(a, b, bytes, first, stream);
      break;
    case 2:
      Compare<std::uint16_t>(a, b, bytes, first, stream);
      break;
    default:
      Compare<std::uint8_t>(a, b, bytes, first, stream);
  }
}

namespace internal {

void LaunchCompareEach(std::span<const BytePair> pairs, std::uint64_t* first, cudaStream_t stream) {
  constexpr std::size_t kLargest = std::size_t{4} << 20, kPiece = 4 * kThreads * sizeof(uint4);
  PairTable table;
  unsigned count = 0;
  std::size_t longest = 0;
  const auto launch = [&] {
    if (count == 0) return;
    const dim3 grid(static_cast<unsigned>((longest + kPiece - 1) / kPiece), count);
    LaunchKernel("compare_pairs", compare_pairs, grid, kThreads, stream, table, first);
    count = 0;
    longest = 0;
  };
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const BytePair& pair = pairs[i];
    if (pair.bytes > kLargest) {
      LaunchCompare(pair.a, pair.b, pair.bytes, first + i, stream);
    } else if (pair.bytes != 0) {
      table.entries[count++] = {static_cast<const unsigned char*>(pair.a), static_cast<const unsigned char*>(pair.b),
                                static_cast<std::uint32_t>(pair.bytes), static_cast<std::uint32_t>(i)};
      longest = std::max(longest, pair.bytes);
      if (count == PairTable::kPairs) launch();
    }
  }
  launch();
}

void LaunchFindHolding(const void* data, std::size_t elements, std::size_t size, std::uint8_t value,
                       const std::int64_t* among, std::int64_t* indices, std::uint64_t capacity,
                       unsigned long long* count, cudaStream_t stream) {
  if (elements == 0) return;
  const auto blocks = static_cast<unsigned>(
      std::clamp<std::size_t>((elements + 255) / 256, 1, static_cast<std::size_t>(16 * MultiprocessorCount())));
  const auto launch = [&](auto kernel) {
    LaunchKernel("find_holding", kernel, blocks, 256, stream, static_cast<const unsigned char*>(data), elements, value,
                 among, indices, capacity, count);
  };
  switch (size) {
    case 1:
      launch(find_holding<1>);
      break;
    case 2:
      launch(find_holding<2>);
      break;
    case 4:
      launch(find_holding<4>);
      break;
    default:
      launch(find_holding<8>);
  }
}

void LaunchPlainRead(const void* data, std::size_t bytes, std::uint32_t* sink, cudaStream_t stream) {
  LaunchKernel("plain_read", plain_read, static_cast<unsigned>(6 * MultiprocessorCount()), kThreads, stream,
               static_cast<const uint4*>(data), bytes / sizeof(uint4), sink);
}

}  // namespace internal
}  // namespace gtest_determinism
