// A random quantized weight and its parts, for descriptions that test an INT4 matmul.
#ifndef SUITES_OP_TEST_QUANTIZED_WEIGHT_H_
#define SUITES_OP_TEST_QUANTIZED_WEIGHT_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace suites::op_test {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next();
  std::uint64_t Below(std::uint64_t bound) { return (Next() >> 32) % bound; }
  double Uniform(double low, double high);  // [low, high)
  double Normal();                          // mean 0, standard deviation 1

 private:
  std::uint64_t state_;
};

struct WeightShape {
  std::string format;  // "awq", "gptq"
  std::int64_t k = 0, n = 0, group_size = 128;
  bool symmetric = false;  // every zero point 8
  bool desc_act = false;   // gptq: groups of rows that lie apart
  std::uint64_t seed = 0;
};

// A checkpoint's tensors, in host memory, with codes drawn from 0..15 and
// scales from 0.01 to 0.02.
struct Weight {
  WeightShape shape;
  at::Tensor qweight, qzeros, scales, g_idx;
};
// k and n are multiples of 8, k of the group size.
Weight RandomWeight(const WeightShape& shape);

// "qweight", "qzeros", "scales", "g_idx" as a checkpoint has them; "row_order"
// (I32 [K], rows sorted by group) and "sorted_g_idx", both empty without
// desc_act; "marlin_scales" and "marlin_zeros" in vLLM's order.
std::vector<std::string_view> PartNames();
// On the device of the weight's tensors. Throws std::invalid_argument where the
// weight has no such part.
at::Tensor PartOf(const Weight& weight, std::string_view part);

}  // namespace suites::op_test

#endif  // SUITES_OP_TEST_QUANTIZED_WEIGHT_H_
