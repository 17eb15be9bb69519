// Launch functions of gtest_determinism::cuda that are not public.
#ifndef GTEST_DETERMINISM_INTERNAL_CUDA_KERNELS_H_
#define GTEST_DETERMINISM_INTERNAL_CUDA_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/internal/element_differences.h"

namespace gtest_determinism::internal {

// Counts in *count the elements of `size` bytes, all of which are `value`, and
// writes the indices of the first `capacity` that are found, in any order. With
// `among` (device memory): of those `elements` indices; else of 0 .. elements - 1.
void LaunchFindHolding(const void* data, std::size_t elements, std::size_t size, std::uint8_t value,
                       const std::int64_t* among, std::int64_t* indices, std::uint64_t capacity,
                       unsigned long long* count, cudaStream_t stream);

// LaunchCompare() of each pair, with first[i] for pairs[i]: one kernel for 128 of them,
// and one for each that is larger than 4 MiB.
void LaunchCompareEach(std::span<const BytePair> pairs, std::uint64_t* first, cudaStream_t stream);

// Writes to *result in what so many elements at any addresses differ. One kernel. The
// first four bytes of `scratch` are 0 before and after; one launch at a time uses it.
std::size_t DifferencesScratchBytes();
void LaunchCountDifferences(const void* expected, const void* actual, std::size_t elements, DType dtype,
                            DifferenceCount* result, void* scratch, cudaStream_t stream);

// Reads all of it, for a figure to compare with; *sink gets something of it.
void LaunchPlainRead(const void* data, std::size_t bytes, std::uint32_t* sink, cudaStream_t stream);

// Blocks that take a multiprocessor each until *stop (mapped memory of the host)
// is not 0 or the time is over, and use `words` words, a power of two.
void LaunchCompete(int blocks, const unsigned* stop, std::uint64_t nanoseconds, std::uint32_t* buffer,
                   std::size_t words, std::uint64_t seed, cudaStream_t stream);

// One thread that waits.
void LaunchHoldStream(std::uint64_t nanoseconds, cudaStream_t stream);

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_CUDA_KERNELS_H_
