// What the accuracy tests of the CPU's kernels and of a device's have in common.
#ifndef TESTS_KERNELS_ACCURACY_CASES_H_
#define TESTS_KERNELS_ACCURACY_CASES_H_

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"
#include "tests/kernels/random_layer.h"

namespace kernels {

struct Shape {
  const char* reason;
  std::int64_t m, k, n, group_size = 128;
};

struct Case {
  const char* name;
  const char* family;
  Format format;
  Shape shape;
  bool desc_act = false;
  bool batch_invariant = false;
};

inline void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name << " " << c.shape.reason << " [" << c.shape.m << ", " << c.shape.k << "] x [" << c.shape.k << ", "
       << c.shape.n << "]";
}

inline std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.name) + "_" + info.param.shape.reason;
}

// Every family on every format that it reads: this project's kernels, and ATen's.
inline void AddBuiltin(const Shape& shape, std::vector<Case>& cases) {
  cases.push_back({"marlin_from_awq", "marlin", Format::kAwq, shape});
  cases.push_back({"marlin_from_gptq", "marlin", Format::kGptq, shape});
  cases.push_back({"awq", "awq", Format::kAwq, shape});
  cases.push_back({"gptq", "gptq", Format::kGptq, shape});
}
inline void AddTinygemm(const Shape& shape, std::vector<Case>& cases) {
  cases.push_back({"tinygemm_from_tiles", "tinygemm", Format::kTorchaoTilePacked, shape});
  cases.push_back({"tinygemm_from_plain", "tinygemm", Format::kTorchaoPlain, shape});
}
inline void AddDescAct(const Shape& shape, std::vector<Case>& cases) {
  cases.push_back({"marlin_from_gptq", "marlin", Format::kGptq, shape, true});
  cases.push_back({"gptq", "gptq", Format::kGptq, shape, true});
}

inline QuantizedLinear LayerOf(const Case& c) {
  return RandomLayer(
      c.format, {.k = c.shape.k, .n = c.shape.n, .group_size = c.shape.group_size, .desc_act = c.desc_act}, /*seed=*/7);
}
inline at::Tensor ActivationsOf(const Case& c) {
  const at::ScalarType dtype = std::string(c.family) == "tinygemm" ? at::kBFloat16 : at::kHalf;
  return RandomActivations(c.shape.m, c.shape.k, dtype, /*seed=*/8);
}

// ---- special values ----

struct FamilyAndFormat {
  const char* family;
  Format format;
};
inline void PrintTo(const FamilyAndFormat& param, std::ostream* out) { *out << param.family; }

inline auto OwnFamilies() {
  return testing::Values(FamilyAndFormat{"marlin", Format::kAwq}, FamilyAndFormat{"awq", Format::kAwq},
                         FamilyAndFormat{"gptq", Format::kGptq});
}
inline std::string FamilyName(const testing::TestParamInfo<FamilyAndFormat>& info) { return info.param.family; }

// Rows with a NaN or an infinity give what IEEE arithmetic gives in float64, and
// do not touch their neighbours. m: at least 3; K: above 200.
inline void ExpectNanAndInfinityInTheirRows(const Int4Matmul& kernel, const QuantizedLinear& layer, std::int64_t m,
                                            at::Device device) {
  const at::Tensor clean = RandomActivations(m, layer.k, at::kHalf, 10);
  at::Tensor x = clean.clone();
  x[0][200] = std::numeric_limits<float>::quiet_NaN();
  x[1][3] = std::numeric_limits<float>::infinity();
  const at::Tensor reference = x.to(at::kDouble).matmul(Dequantize(layer).to(at::kDouble));
  const at::Tensor y = kernel.ForwardOrdered(x.to(device)).cpu();
  const at::Tensor plain = kernel.ForwardOrdered(clean.to(device)).cpu();
  for (std::int64_t n = 0; n < layer.n; ++n) {
    EXPECT_TRUE(std::isnan(y[0][n].item<float>())) << n;
    const double expected = reference[1][n].item<double>();
    const float actual = y[1][n].item<float>();
    EXPECT_EQ(std::isnan(actual), std::isnan(expected)) << n;
    if (!std::isnan(expected)) {
      EXPECT_EQ(actual, expected) << n;
    }
  }
  EXPECT_TRUE(y.narrow(0, 2, m - 2).equal(plain.narrow(0, 2, m - 2)));
}

inline void ExpectPlusZeroOfMinusZero(const Int4Matmul& kernel, std::int64_t m, at::Device device) {
  const at::Tensor y = kernel.Forward(at::full({m, kernel.k()}, -0.0, at::kHalf).to(device)).cpu();
  for (std::int64_t i = 0; i < y.numel(); ++i) ASSERT_EQ(y.const_data_ptr<at::Half>()[i].x, 0) << m << " " << i;
}

inline void ExpectNoRowsOfNoRows(const Int4Matmul& kernel, at::Device device) {
  const at::Tensor y = kernel.Forward(at::empty({0, kernel.k()}, at::TensorOptions().dtype(at::kHalf).device(device)));
  EXPECT_EQ(y.size(0), 0);
  EXPECT_EQ(y.size(1), kernel.n());
}

}  // namespace kernels

#endif  // TESTS_KERNELS_ACCURACY_CASES_H_
