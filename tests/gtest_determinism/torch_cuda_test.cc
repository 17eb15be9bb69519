// at::Tensor on a GPU as a thing with bits.
#include "kernels/torch_cuda.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gtest_determinism/compare.h"
#include "gtest_determinism/cuda.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;

class CudaTensorBits : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto& cuda = kernels::TorchCuda(); cuda.devices == 0) GTEST_SKIP() << cuda.reason;
  }
};

TEST_F(CudaTensorBits, ContiguousTensorIsAViewOnTheDevice) {
  const at::Tensor tensor = at::arange(6, at::TensorOptions(at::kHalf).device(at::kCUDA)).reshape({2, 3});
  const Trace trace = TraceOf(tensor);
  ASSERT_EQ(trace.size(), 1u);
  EXPECT_EQ(trace[0].view.data, tensor.const_data_ptr());
  EXPECT_EQ(trace[0].view.space, &CudaMemory(0));
  EXPECT_EQ(trace[0].view.dtype, DType::kFloat16);
  EXPECT_THAT(trace[0].view.shape, ElementsAre(2, 3));
  EXPECT_EQ(trace[0].view.bytes, 12u);
}

TEST_F(CudaTensorBits, StridedTensorIsReadInItsOwnOrderOnTheDevice) {
  const at::Tensor host = at::arange(6000, at::kFloat).reshape({60, 100});
  const at::Tensor device = host.to(at::kCUDA);
  const Trace trace = TraceOf(device.t());
  EXPECT_EQ(trace[0].view.space, &CudaMemory(0));
  EXPECT_FALSE(CompareTraces(TraceOf(host.t()), trace).has_value());
  EXPECT_EQ(DigestOf(trace), DigestOf(TraceOf(host.t())));
  EXPECT_NE(DigestOf(trace), DigestOf(TraceOf(device)));
}

TEST_F(CudaTensorBits, ADifferenceIsFoundWhereItIs) {
  int run = 0;
  const Report report = RunRepeated(
      [&run] {
        at::Tensor tensor = at::full({4, 8}, 1.0, at::TensorOptions(at::kHalf).device(at::kCUDA));
        if (++run == 3) tensor[2][5] = 2.0;
        return tensor;
      },
      {.runs = 5});
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_THAT(report.first_divergence->diff.coordinate, ElementsAre(2, 5));
  EXPECT_EQ(report.first_divergence->diff.actual_word, 0x4000u);
}

// torch's allocator hands the block of the last run out again: what nobody wrote is the same each time, unless its
// free blocks are poisoned.
TEST_F(CudaTensorBits, PoisonReachesTheFreeBlocksOfTorch) {
  const auto unset = [] { return at::empty({300000}, at::TensorOptions(at::kFloat).device(at::kCUDA)); };
  at::zeros({300000}, at::TensorOptions(at::kFloat).device(at::kCUDA));
  EXPECT_THAT(RunRepeated(unset, {.runs = 6, .perturbations = {{TorchWorkspacePoison()}}}), IsNondeterministic());
  const auto set = [] { return at::full({300000}, 3, at::TensorOptions(at::kFloat).device(at::kCUDA)); };
  EXPECT_THAT(RunRepeated(set, {.runs = 6, .perturbations = {{TorchWorkspacePoison()}}}), IsBitExact());
}

// Whatever lies free in the allocator: odd blocks of both its pools, and some of
// another stream.
TEST_F(CudaTensorBits, PoisonDoesNotGrowTheAllocator) {
  const at::TensorOptions bytes = at::TensorOptions(at::kByte).device(at::kCUDA);
  at::Tensor kept;
  {
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
    at::empty({50 << 20}, bytes);
    at::empty({1000}, bytes);
  }
  {
    // Between two that are kept lie blocks of odd sizes.
    const at::Tensor other = at::empty({700000}, bytes), large = at::empty({3 << 20}, bytes);
    kept = at::empty({1300000}, bytes);
    const at::Tensor small = at::empty({300000}, bytes);
  }
  const auto poison = TorchWorkspacePoison();
  const auto reserved = [] { return c10::cuda::CUDACachingAllocator::getDeviceStats(0).reserved_bytes[0].current; };
  for (int run = 1; run <= 3; ++run) poison->Apply(run, 1);
  const std::int64_t before = reserved();
  for (int run = 4; run <= 40; ++run) poison->Apply(run, 1);
  EXPECT_EQ(reserved(), before);
  EXPECT_GE(before, 64 << 20);  // and it took some
}

}  // namespace
}  // namespace gtest_determinism
