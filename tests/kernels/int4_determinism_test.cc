// What each kernel promises: bits that depend on nothing but the inputs; for
// gptq's arrival order, that it shows, and that its twin does not.
#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"
#include "kernels/cpu/arrival_pool.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/operators.h"
#include "kernels/int4_matmul.h"
#include "tests/kernels/deterministic_scope.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

using gtest_determinism::IsBitExact;
using gtest_determinism::IsNondeterministic;
using gtest_determinism::Options;
using gtest_determinism::RunRepeated;

Options Runs(int runs) {
  Options options;
  options.runs = runs;
  options.perturbations.emplace();  // none
  return options;
}

class ThreadScope {
 public:
  ThreadScope() : before_(at::get_num_threads()) {}
  ~ThreadScope() { at::set_num_threads(before_); }

 private:
  int before_;
};

class IsaScope {
 public:
  IsaScope() : before_(cpu::ActiveIsa()) {}
  ~IsaScope() { cpu::SetActiveIsa(before_); }

 private:
  cpu::Isa before_;
};

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.nbytes() == y.nbytes() && std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

int AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  return CPU_COUNT(&set);
}

struct Kernel {
  const char* family;
  Format format;
};
void PrintTo(const Kernel& kernel, std::ostream* out) { *out << kernel.family << " from " << NameOf(kernel.format); }
std::string KernelName(const testing::TestParamInfo<Kernel>& info) { return info.param.family; }

class OrderedKernel : public testing::TestWithParam<Kernel> {};

// K of several slices, columns that end within a tile, and both ways through
// the code: few rows, and a decoded panel.
TEST_P(OrderedKernel, ThousandRunsUnderChangingThreadCountsGiveOnePattern) {
  const ThreadScope scope;
  const bool bf16 = std::string(GetParam().family) == "tinygemm";
  const auto kernel = MakeInt4Matmul({GetParam().family}, RandomLayer(GetParam().format, {.k = 512, .n = 336}, 1));
  for (const std::int64_t m : {1, 40}) {
    const at::Tensor x = RandomActivations(m, 512, bf16 ? at::kBFloat16 : at::kHalf, 2);
    int run = 0;
    EXPECT_THAT(RunRepeated(
                    [&] {
                      at::set_num_threads(1 + run++ % 5);
                      return kernel->ForwardOrdered(x);
                    },
                    Runs(1000)),
                IsBitExact())
        << "m = " << m;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, OrderedKernel,
                         testing::Values(Kernel{"marlin", Format::kAwq}, Kernel{"awq", Format::kAwq},
                                         Kernel{"gptq", Format::kGptq}, Kernel{"tinygemm", Format::kTorchaoPlain}),
                         KernelName);

class BuiltinKernel : public testing::TestWithParam<Kernel> {};

TEST_P(BuiltinKernel, EveryInstructionSetGivesTheSameBits) {
  const IsaScope scope;
  const auto kernel = MakeInt4Matmul({GetParam().family}, RandomLayer(GetParam().format, {.k = 384, .n = 200}, 3));
  for (const std::int64_t m : {1, 2, 3, 4, 5, 11, 100}) {
    const at::Tensor x = RandomActivations(m, 384, at::kHalf, 4);
    cpu::SetActiveIsa(cpu::Isa::kPortable);
    const at::Tensor portable = kernel->ForwardOrdered(x);
    for (const cpu::Isa isa : cpu::SupportedIsas()) {
      cpu::SetActiveIsa(isa);
      EXPECT_TRUE(SameBits(kernel->ForwardOrdered(x), portable)) << cpu::NameOf(isa) << ", m = " << m;
    }
  }
}

// Batch invariance: whether a row's result depends on the rows beside it. The first
// number of rows with which row 100 of x differs from what it gives alone, 0 where
// none does. x: 200 rows.
template <class Matmul>
std::int64_t FirstRowCountThatShows(const Matmul& matmul, const at::Tensor& x) {
  const at::Tensor alone = matmul(x.narrow(0, 100, 1));
  for (std::int64_t m = 1; m <= 64; ++m) {
    // First, last, and in the middle of its batch.
    for (const std::int64_t before : {std::int64_t{0}, m - 1, m / 2}) {
      if (!SameBits(matmul(x.narrow(0, 100 - before, m)).narrow(0, before, 1), alone)) return m;
    }
  }
  return SameBits(matmul(x).narrow(0, 100, 1), alone) ? 0 : x.size(0);
}

TEST_P(BuiltinKernel, ARowGivesTheSameBitsInAnyBatch) {
  const IsaScope scope;
  const auto kernel = MakeInt4Matmul({GetParam().family}, RandomLayer(GetParam().format, {.k = 512, .n = 136}, 5));
  const at::Tensor x = RandomActivations(200, 512, at::kHalf, 6);
  const auto matmul = [&](const at::Tensor& rows) { return kernel->ForwardOrdered(rows); };
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    if (isa == cpu::Isa::kPortable) continue;  // slow, and the same bits: above
    cpu::SetActiveIsa(isa);
    EXPECT_EQ(FirstRowCountThatShows(matmul, x), 0) << cpu::NameOf(isa);
  }
  // Controls: a kernel that splits K from six rows on is seen there, and another
  // row has other bits.
  const auto split_from_six = [&](const at::Tensor& rows) {
    if (rows.size(0) < 6) return matmul(rows);
    at::Tensor upper = rows.clone(), lower = rows.clone();
    upper.narrow(1, 256, 256).zero_();
    lower.narrow(1, 0, 256).zero_();
    return matmul(upper).add(matmul(lower));
  };
  EXPECT_EQ(FirstRowCountThatShows(split_from_six, x), 6);
  EXPECT_FALSE(SameBits(matmul(x.narrow(0, 100, 1)), matmul(x.narrow(0, 101, 1))));
}

// --batch-invariant: the kernels of the CPU that are so say so and are what they are
// without; the others refuse.
TEST_P(BuiltinKernel, BatchInvarianceIsGrantedToThoseThatHaveIt) {
  const QuantizedLinear layer = RandomLayer(GetParam().format, {.k = 256, .n = 64}, 5);
  KernelRequest request = {GetParam().family};
  request.batch_invariant = true;
  if (std::string(GetParam().family) == "gptq") {
    EXPECT_FALSE(MakeInt4Matmul({"gptq"}, layer)->identity().batch_invariant);
    EXPECT_THROW(MakeInt4Matmul(request, layer), std::invalid_argument);
    return;
  }
  const auto kernel = MakeInt4Matmul(request, layer);
  EXPECT_TRUE(kernel->identity().batch_invariant);
  EXPECT_EQ(kernel->identity().op, MakeInt4Matmul({GetParam().family}, layer)->identity().op);
}

INSTANTIATE_TEST_SUITE_P(Kernels, BuiltinKernel,
                         testing::Values(Kernel{"marlin", Format::kAwq}, Kernel{"awq", Format::kAwq},
                                         Kernel{"gptq", Format::kGptq}),
                         KernelName);

TEST(Marlin, GivesTheBitsOfAwqFromTheSameCheckpoint) {
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {.k = 512, .n = 200}, 5);
  const at::Tensor x = RandomActivations(9, 512, at::kHalf, 6);
  EXPECT_TRUE(SameBits(MakeInt4Matmul({"marlin"}, layer)->Forward(x), MakeInt4Matmul({"awq"}, layer)->Forward(x)));
}

class ArrivalOrder : public testing::Test {
 protected:
  void SetUp() override {
    if (AllowedCpus() < 2) GTEST_SKIP() << "arrival order needs two CPUs, this process may use one";
  }
  // The down projection of the embedded model: eight slices.
  const std::unique_ptr<Int4Matmul> kernel_ =
      MakeInt4Matmul({"gptq"}, RandomLayer(Format::kGptq, {.k = 1024, .n = 256}, 1));
};

TEST_F(ArrivalOrder, ShowsInManyRows) {
  const at::Tensor x = RandomActivations(256, 1024, at::kHalf, 2);
  EXPECT_THAT(RunRepeated([&] { return kernel_->Forward(x); }, Runs(200)), IsNondeterministic());
  EXPECT_THAT(RunRepeated([&] { return kernel_->ForwardOrdered(x); }, Runs(200)), IsBitExact());
}

TEST_F(ArrivalOrder, ShowsInOneRow) {
  const at::Tensor x = RandomActivations(1, 1024, at::kHalf, 2);
  EXPECT_THAT(RunRepeated([&] { return kernel_->Forward(x); }, Runs(1000)), IsNondeterministic());
  EXPECT_THAT(RunRepeated([&] { return kernel_->ForwardOrdered(x); }, Runs(1000)), IsBitExact());
}

// Eight tasks of a microsecond, after a rest.
TEST_F(ArrivalOrder, ShowsInAShortJob) {
  const auto kernel = MakeInt4Matmul({"gptq"}, RandomLayer(Format::kGptq, {.k = 1024, .n = 8}, 1));
  const at::Tensor x = RandomActivations(1, 1024, at::kHalf, 2);
  const auto rested = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return kernel->Forward(x);
  };
  EXPECT_THAT(RunRepeated(rested, Runs(300)), IsNondeterministic());
}

TEST_F(ArrivalOrder, TheDeterministicSwitchEndsIt) {
  const at::Tensor x = RandomActivations(256, 1024, at::kHalf, 2);
  const DeterministicScope scope;
  EXPECT_THAT(RunRepeated([&] { return kernel_->Forward(x); }, Runs(200)), IsBitExact());
  EXPECT_TRUE(SameBits(kernel_->Forward(x), kernel_->ForwardOrdered(x)));
}

// The operator keeps PyTorch's convention by itself, for a user who calls it by name.
TEST_F(ArrivalOrder, TheOperatorFollowsTheSwitchToo) {
  const QuantizedLinear layer = RandomLayer(Format::kGptq, {.k = 1024, .n = 256}, 1);
  const at::Tensor x = RandomActivations(256, 1024, at::kHalf, 2);
  const at::Tensor zeros = at::full({8, 256}, 8, at::kByte);
  // Any words are weights.
  const at::Tensor words = layer.qweight.view({4, 128, 64});
  const auto call = [&] { return cpu::GptqGemm(x, words, zeros, layer.scales, std::nullopt, 256); };
  EXPECT_THAT(RunRepeated(call, Runs(200)), IsNondeterministic());
  const DeterministicScope scope;
  EXPECT_THAT(RunRepeated(call, Runs(200)), IsBitExact());
}

// Two addends commute, so two slices have one sum whichever comes first.
TEST(TwoSlices, GiveOnePatternInAnyOrder) {
  const auto kernel = MakeInt4Matmul({"gptq"}, RandomLayer(Format::kGptq, {.k = 256, .n = 256}, 1));
  const at::Tensor x = RandomActivations(64, 256, at::kHalf, 2);
  EXPECT_THAT(RunRepeated([&] { return kernel->Forward(x); }, Runs(500)), IsBitExact());
  EXPECT_TRUE(SameBits(kernel->Forward(x), kernel->ForwardOrdered(x)));
}

float HalfSum(float a, float b) { return static_cast<float>(at::Half(a + b)); }

// Whatever came first, the result is the fp16 sum of the same fp16 partial sums:
// with three slices each element is one of three sums, and no add is ever lost.
TEST(ThreeSlices, EveryElementIsTheSumInSomeOrder) {
  constexpr std::int64_t kM = 70, kN = 128;
  const QuantizedLinear layer = RandomLayer(Format::kGptq, {.k = 384, .n = kN}, 1);
  const auto kernel = MakeInt4Matmul({"gptq"}, layer);
  const at::Tensor x = RandomActivations(kM, 384, at::kHalf, 2);
  std::vector<at::Tensor> partial;
  for (int slice = 0; slice < 3; ++slice) {
    QuantizedLinear part = layer;
    part.k = 128;
    part.qweight = layer.qweight.narrow(0, 16 * slice, 16);
    part.qzeros = layer.qzeros.narrow(0, slice, 1);
    part.scales = layer.scales.narrow(0, slice, 1);
    part.g_idx = at::Tensor();
    partial.push_back(
        MakeInt4Matmul({"gptq"}, part)->ForwardOrdered(x.narrow(1, 128 * slice, 128)).to(at::kFloat).contiguous());
  }
  std::int64_t not_ascending = 0;
  const auto is_a_sum = [&](const at::Tensor& result, std::int64_t i) {
    const float p[3] = {partial[0].const_data_ptr<float>()[i], partial[1].const_data_ptr<float>()[i],
                        partial[2].const_data_ptr<float>()[i]};
    const std::array<float, 3> sums = {HalfSum(HalfSum(p[0], p[1]), p[2]), HalfSum(HalfSum(p[0], p[2]), p[1]),
                                       HalfSum(HalfSum(p[1], p[2]), p[0])};
    const float actual = result.const_data_ptr<float>()[i];
    not_ascending += actual != sums[0];
    return std::find(sums.begin(), sums.end(), actual) != sums.end();
  };
  const auto multiply = [&] { return kernel->Forward(x).to(at::kFloat).contiguous(); };
  for (int run = 0; run < 200; ++run) {
    const at::Tensor y = multiply();
    for (std::int64_t i = 0; i < kM * kN; ++i) ASSERT_TRUE(is_a_sum(y, i)) << "run " << run << ", element " << i;
  }
  // Two callers at a time.
  for (int run = 0; run < 100; ++run) {
    at::Tensor beside;
    std::thread other([&] { beside = multiply(); });
    const at::Tensor y = multiply();
    other.join();
    for (std::int64_t i = 0; i < kM * kN; ++i) {
      ASSERT_TRUE(is_a_sum(y, i) && is_a_sum(beside, i)) << "run " << run << ", element " << i;
    }
  }
  if (AllowedCpus() > 1) {
    EXPECT_GT(not_ascending, 0);
  }
}

class SideBySide : public testing::TestWithParam<int> {};

// With PyTorch's threads, and with those of the pool where PyTorch has one.
TEST_P(SideBySide, EachWorkerRunsOnceAndIsSeenAfterwards) {
  const ThreadScope scope;
  at::set_num_threads(GetParam());
  const int workers = cpu::SideBySideThreads();
  ASSERT_GE(workers, 2);
  for (int run = 0; run < 100; ++run) {
    std::vector<int> calls(static_cast<std::size_t>(workers));
    cpu::RunSideBySide([&](int worker) { ++calls[static_cast<std::size_t>(worker)]; });
    ASSERT_THAT(calls, testing::Each(1)) << "run " << run;
  }
}

// True before the deadline: a test that would wait for ever fails.
template <class Condition>
bool Eventually(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Workers that wait for each other would wait for ever if they ran one after the other.
TEST_P(SideBySide, AsManyAsCpusRunAtTheSameTime) {
  const ThreadScope scope;
  at::set_num_threads(GetParam());
  const int first = std::min(cpu::SideBySideThreads(), AllowedCpus());
  std::atomic<int> begun{0}, met{0};
  cpu::RunSideBySide([&](int worker) {
    if (worker >= first) return;
    ++begun;
    met += Eventually([&] { return begun == first; });
  });
  EXPECT_EQ(met, first);
}

// Worker 0 stays at its first task until all others are done: with PyTorch's threads
// its own among them, in the pool those of the others.
TEST_P(SideBySide, OthersDoWhatAWorkerThatIsLateHasNotTaken) {
  const ThreadScope scope;
  at::set_num_threads(GetParam());
  constexpr int kTasks = 50;
  const int workers = cpu::SideBySideThreads();
  const int elsewhere = cpu::SideBySideUsesPool() ? kTasks - (kTasks + workers - 1) / workers : kTasks - 1;
  std::vector<int> done(kTasks);
  std::atomic<int> all{0};
  cpu::SharedTasks tasks(kTasks);
  bool others_were_done = false;
  cpu::RunSideBySide([&](int worker) {
    tasks.Run(worker, [&](std::int64_t task) {
      if (task == 0) others_were_done = Eventually([&] { return all == elsewhere; });
      ++done[task];
      ++all;
    });
  });
  EXPECT_TRUE(others_were_done);
  EXPECT_THAT(done, testing::Each(1));
}

INSTANTIATE_TEST_SUITE_P(Threads, SideBySide, testing::Values(1, 2, 3, 8));

TEST(SideBySide, InsideAParallelRegionEachWorkerRunsOnce) {
  const ThreadScope scope;
  at::set_num_threads(2);
  std::atomic<int> calls{0}, expected{0};
  at::parallel_for(0, 2, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      expected += cpu::SideBySideThreads();
      cpu::RunSideBySide([&](int) { ++calls; });
    }
  });
  EXPECT_EQ(expected, 2 * cpu::ArrivalPool::Instance().workers());  // unless OMP_THREAD_LIMIT is 1
  EXPECT_EQ(calls, expected);
}

TEST(ArrivalPool, HasFourWorkersAndRunsEachOnce) {
  cpu::ArrivalPool& pool = cpu::ArrivalPool::Instance();
  ASSERT_GE(pool.workers(), 4);
  for (int run = 0; run < 100; ++run) {
    std::vector<int> calls(static_cast<std::size_t>(pool.workers()));
    pool.RunOnAll([&](int worker) { ++calls[static_cast<std::size_t>(worker)]; });
    EXPECT_THAT(calls, testing::Each(1));
  }
}

}  // namespace
}  // namespace kernels
