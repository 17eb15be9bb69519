// What stands before and behind a launch in a chain, to see what it does there.
#ifndef TESTS_SUITES_MODEL_CHAIN_WITNESS_H_
#define TESTS_SUITES_MODEL_CHAIN_WITNESS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace suites::internal {

// A launch that lets the next begin at once and ends late: it waits until the witness
// has begun, or for `patience`, then for a little more, so that a launch that does not
// wait does its harm. Only then it reads `in` and writes `out`.
struct HeldLaunch {
  const void* in = nullptr;  // copied to `seen_in`
  void* seen_in = nullptr;
  std::size_t in_bytes = 0;       // a multiple of 16, as the addresses are
  const void* source = nullptr;   // copied to `out`
  void* out = nullptr;
  std::size_t out_bytes = 0;
  std::uint32_t* witness = nullptr;          // not zero: it has begun
  std::uint32_t* witness_was_there = nullptr;  // what this one saw of it
  std::uint64_t patience_ns = 0;
};
void LaunchHeld(const HeldLaunch& held, cudaStream_t stream);

// Sets *witness as soon as it runs. In a chain it begins once all blocks of the launch
// ahead have let it: while the held launch runs, it shows that the one between has begun.
void LaunchWitness(std::uint32_t* witness, cudaStream_t stream);

}  // namespace suites::internal

#endif  // TESTS_SUITES_MODEL_CHAIN_WITNESS_H_
