#include "gtest_determinism/torch.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/quantize_per_tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "gtest_determinism/compare.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

static_assert(HasBits<at::Tensor> && HasBits<std::vector<at::Tensor>> && HasBits<std::pair<at::Tensor, int>>);

std::string ErrorOf(const at::Tensor& tensor) {
  try {
    TraceOf(tensor);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST(TensorBits, ContiguousTensorIsAViewOfItsStorage) {
  const at::Tensor tensor = at::arange(6, at::kFloat).reshape({2, 3});
  const Trace trace = TraceOf(tensor);
  ASSERT_EQ(trace.size(), 1u);
  EXPECT_EQ(trace[0].view.data, tensor.const_data_ptr());
  EXPECT_EQ(trace[0].view.dtype, DType::kFloat32);
  EXPECT_THAT(trace[0].view.shape, ElementsAre(2, 3));
  EXPECT_EQ(trace[0].view.bytes, 24u);
}

TEST(TensorBits, StridedTensorIsReadInItsOwnOrder) {
  const at::Tensor transposed = at::arange(6, at::kFloat).reshape({2, 3}).t();
  EXPECT_FALSE(transposed.is_contiguous());
  const at::Tensor contiguous = transposed.contiguous();
  EXPECT_FALSE(CompareTraces(TraceOf(contiguous), TraceOf(transposed)).has_value());
}

TEST(TensorBits, ViewOutlivesATemporary) {
  Trace trace;
  {
    const at::Tensor temporary = at::full({1000}, 7.0).t();
    trace = TraceOf(temporary);
  }
  EXPECT_EQ(static_cast<const float*>(trace[0].view.data)[999], 7.0f);
}

TEST(TensorBits, DTypes) {
  const std::pair<at::ScalarType, DType> kinds[] = {
      {at::kHalf, DType::kFloat16}, {at::kBFloat16, DType::kBFloat16}, {at::kDouble, DType::kFloat64},
      {at::kInt, DType::kInt32},    {at::kLong, DType::kInt64},        {at::kShort, DType::kInt16},
      {at::kChar, DType::kInt8},    {at::kByte, DType::kUInt8},        {at::kBool, DType::kBool}};
  for (const auto& [torch, dtype] : kinds) {
    const at::Tensor tensor = at::zeros({3}, torch);
    EXPECT_EQ(TraceOf(tensor)[0].view.dtype, dtype);
    EXPECT_EQ(TraceOf(tensor)[0].view.bytes, 3 * SizeOf(dtype));
  }
  const at::Tensor complex = at::zeros({3}, at::kComplexFloat);
  EXPECT_THAT(TraceOf(complex)[0].view.shape, ElementsAre(3, 2));
  const at::Tensor float8 = at::empty({3}, at::kFloat8_e4m3fn);
  EXPECT_EQ(TraceOf(float8)[0].view.dtype, DType::kBytes);
}

TEST(TensorBits, LazyNegationIsResolved) {
  const at::Tensor complex = at::full({2}, c10::complex<float>(1, 2), at::kComplexFloat);
  const at::Tensor conjugate = complex.conj();
  const Trace trace = TraceOf(conjugate);
  EXPECT_EQ(static_cast<const float*>(trace[0].view.data)[1], -2.0f);
}

TEST(TensorBits, WhatHasNoBitsIsRefused) {
  EXPECT_EQ(ErrorOf(at::Tensor()), "tensor is undefined");
  EXPECT_THAT(ErrorOf(at::zeros({2, 2}).to_sparse()), HasSubstr("tensor is sparse"));
  EXPECT_THAT(ErrorOf(at::quantize_per_tensor(at::zeros({2}), 0.1, 0, at::kQInt8)), HasSubstr("tensor is quantized"));
  EXPECT_THAT(ErrorOf(at::empty({2}, at::TensorOptions().device(at::kMeta))), HasSubstr("tensor is on meta"));
}

TEST(TensorBits, RunRepeatedComparesTensors) {
  int run = 0;
  const Report report = RunRepeated(
      [&run] {
        at::Tensor tensor = at::full({4, 8}, 1.0, at::kHalf);
        if (++run == 3) tensor[2][5] = 2.0;
        return tensor;
      },
      {.runs = 5});
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_THAT(report.first_divergence->diff.coordinate, ElementsAre(2, 5));
  EXPECT_EQ(report.first_divergence->diff.actual_word, 0x4000u);
  EXPECT_THAT(RunRepeated([] { return at::full({4, 8}, 1.0, at::kHalf); }, {.runs = 5}), IsBitExact());
}

}  // namespace
}  // namespace gtest_determinism
