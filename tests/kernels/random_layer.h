// Quantized layers and activations from a seed, in every format.
#ifndef TESTS_KERNELS_RANDOM_LAYER_H_
#define TESTS_KERNELS_RANDOM_LAYER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/int4_matmul.h"

namespace kernels {

// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next();
  std::uint32_t Below(std::uint32_t bound) { return static_cast<std::uint32_t>(Next() >> 32) % bound; }
  double Uniform(double low, double high);  // [low, high)

 private:
  std::uint64_t state_;
};

struct LayerShape {
  std::int64_t k = 128;
  std::int64_t n = 64;
  std::int64_t group_size = 128;
  bool desc_act = false;   // GPTQ: a g_idx that mixes the groups
  bool symmetric = false;  // every zero point 8
};

// Every code and zero point is drawn from 0..15; scales are about 1 / 64 and, as
// in a real layer, no power of two.
QuantizedLinear RandomLayer(Format format, const LayerShape& shape, std::uint64_t seed);

// [m, k] in -2..2 of the dtype given.
at::Tensor RandomActivations(std::int64_t m, std::int64_t k, at::ScalarType dtype, std::uint64_t seed);

// The provider that needs no op library, for a test of this project's kernels on
// a machine that has one: "auto" would take the library's.
inline const char* OwnProvider(std::string_view family) { return family == "tinygemm" ? "aten" : "builtin"; }

}  // namespace kernels

#endif  // TESTS_KERNELS_RANDOM_LAYER_H_
