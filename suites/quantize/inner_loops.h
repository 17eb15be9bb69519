// The inner loops of quantization, one build of them for each instruction set.
// All give the same bits: the same operations, each rounded by IEEE 754, in the
// same order, and no multiply is fused with an add.
#ifndef SUITES_QUANTIZE_INNER_LOOPS_H_
#define SUITES_QUANTIZE_INNER_LOOPS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace suites::quantize::internal {

enum class Isa : std::uint8_t { kBaseline, kAvx2, kAvx512 };
// Those that this CPU can run, the quickest last.
std::vector<Isa> SupportedIsas();

// Grids that the search of the clip compares.
inline constexpr int kGrids = 16;

struct InnerLoops {
  // errors[g]: the sum of squared errors of the weights rounded to the nearest of
  // the points code * steps[g] + bases[g], code 0..15. Four sums side by side,
  // sum l over the weights 4i + l, then (0 + 1) + (2 + 3). `count`: a multiple of 4.
  void (*squared_errors)(const float* weights, std::size_t count, const double* steps, const double* bases,
                         double* errors);
  // codes[i]: that of the nearest point, ties to even.
  void (*nearest_codes)(const float* weights, std::size_t count, double step, double base, std::uint8_t* codes);
  // out[i]: bf16 values from the counter key + i, near to normal with mean 0
  // and the standard deviation 0.02.
  void (*random_weights)(std::uint64_t key, std::size_t count, float* out);
};
const InnerLoops& LoopsFor(Isa isa);
const InnerLoops& BestLoops();

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014) as a function of its counter.
std::uint64_t Mix(std::uint64_t counter);

extern const InnerLoops kBaselineLoops;
extern const InnerLoops kAvx2Loops;
extern const InnerLoops kAvx512Loops;

}  // namespace suites::quantize::internal

#endif  // SUITES_QUANTIZE_INNER_LOOPS_H_
