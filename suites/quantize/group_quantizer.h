// Rounds one group of weights to 4-bit codes.
#ifndef SUITES_QUANTIZE_GROUP_QUANTIZER_H_
#define SUITES_QUANTIZE_GROUP_QUANTIZER_H_

#include <cstdint>
#include <span>

#include "suites/quantize/inner_loops.h"

namespace suites::quantize {

// The sixteen values that the codes q = 0..15 of a group stand for.
enum class Grid : std::uint8_t {
  kIntegerZero,  // (q - z) s, z a code, s float16: AWQ, OpenVINO
  kSymmetric,    // (q - 8) s, s float16: GPTQ with sym
  kFloatZero,    // (q - 8) s + z, s and z bfloat16: torchao's tinygemm
};

struct GroupScale {
  std::uint16_t scale = 0;  // bits of s
  std::uint16_t zero = 0;   // z as a code, or its bits
};

// Round to nearest on the grid with the smallest sum of squared errors among 16
// widths: the group's whole range (for kSymmetric up to 3/32 beyond), narrowed
// by 1/32 at a time. A narrower grid clips the extreme weights and rounds the
// others finer. Every code is the nearest point of the grid as it is stored,
// after s and z are rounded to 16 bits.
//
// Arithmetic is double, in a fixed order, of operations that IEEE 754 rounds
// correctly: the codes do not depend on the CPU. `codes` has the size of
// `weights`, a multiple of 4. Throws std::invalid_argument: NaN, infinity, a
// scale beyond float16.
GroupScale QuantizeGroup(Grid grid, std::span<const float> weights, std::uint8_t* codes,
                         const internal::InnerLoops& loops = internal::BestLoops());

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_GROUP_QUANTIZER_H_
