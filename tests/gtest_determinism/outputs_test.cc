#include "gtest_determinism/outputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "far_memory.h"
#include "gtest_determinism/explain.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::HasSubstr;

const Options kPlain{.runs = 6, .perturbations = std::vector<std::shared_ptr<Perturbation>>{}};

// Writes i to element i, but leaves out `hole` in the runs that `skips` names,
// and writes one element too many where asked.
struct Kernel {
  std::int64_t hole = -100;
  bool (*skips)(int run) = [](int) { return true; };
  std::int64_t overrun = 0;   // elements behind the end
  std::int64_t underrun = 0;  // elements before the begin
  int run = 0;
  void operator()(Outputs& out) {
    const std::span<float> y = out.Buffer<float>("y", {4, 8});
    for (std::int64_t i = -underrun; i < 32 + overrun; ++i) {
      if (i == hole && skips(run)) continue;
      y.data()[i] = static_cast<float>(i);
    }
    ++run;
  }
};

TEST(OutputsTest, BufferThatIsFilledIsBitExact) {
  const Report report = RunRepeated(Kernel{}, kPlain);
  EXPECT_THAT(report, IsBitExact());
  EXPECT_EQ(report.elements, 32);
  EXPECT_EQ(report.power.comparisons, 5);
}

TEST(OutputsTest, ElementThatIsNeverWrittenIsNamed) {
  const Report report = RunRepeated(Kernel{.hole = 9}, kPlain);
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_EQ(report.reason,
            "element 9 of output 'y' was never written: it still holds the poison of each run (1 of 32 elements)");
}

TEST(OutputsTest, ElementThatIsSometimesWrittenIsADifference) {
  const Report report = RunRepeated(Kernel{.hole = 9, .skips = [](int run) { return run == 3; }}, kPlain);
  EXPECT_THAT(report, IsNondeterministic());
  ASSERT_TRUE(report.first_divergence.has_value());
  EXPECT_EQ(report.first_divergence->run, 3);
  EXPECT_EQ(report.first_divergence->diff.element, 9);
  EXPECT_EQ(report.first_divergence->note, "not written in run 3: it still holds the poison 0x00");

  const Report first = RunRepeated(Kernel{.hole = 9, .skips = [](int run) { return run == 0; }}, kPlain);
  EXPECT_EQ(first.first_divergence->run, 1);
  EXPECT_EQ(first.first_divergence->note, "not written in run 0: it still holds the poison 0xa5");
}

TEST(OutputsTest, WriteBehindTheEndIsNamed) {
  const Report report = RunRepeated(Kernel{.overrun = 1}, kPlain);
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_EQ(report.reason, "run 0 wrote outside output 'y': byte 128 of its 128 (0x00 instead of the fence's 0xa5)");
}

TEST(OutputsTest, WriteBeforeTheBeginIsNamed) {
  const Report report = RunRepeated(Kernel{.underrun = 2}, kPlain);
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_THAT(report.reason, HasSubstr("run 0 wrote outside output 'y': byte -1 of its 128"));
}

TEST(OutputsTest, FarthestByteOfTheFenceIsGuarded) {
  const auto fence = static_cast<std::ptrdiff_t>(Outputs::kFenceBytes);
  for (const std::ptrdiff_t at : {-fence, std::ptrdiff_t{16} + fence - 1}) {
    const Report report = RunRepeated(
        [at](Outputs& out) {
          const std::span<std::uint8_t> y = out.Buffer<std::uint8_t>("y", {16});
          std::fill(y.begin(), y.end(), std::uint8_t{1});
          y.data()[at] = 1;
        },
        kPlain);
    EXPECT_THAT(report.reason, HasSubstr("byte " + std::to_string(at) + " of its 16"));
  }
}

// The fence of run 0 is 0xa5: a write of that byte is invisible there, not in run 1.
TEST(OutputsTest, OverrunThatEqualsOnePoisonIsFoundInTheNextRun) {
  const Report report = RunRepeated(
      [](Outputs& out) {
        const std::span<std::uint8_t> y = out.Buffer<std::uint8_t>("y", {4});
        for (int i = 0; i < 5; ++i) y.data()[i] = 0xa5;
      },
      kPlain);
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_THAT(report.reason, HasSubstr("run 1 wrote outside output 'y': byte 4"));
}

TEST(OutputsTest, ResultThatEqualsThePoisonOfOneRunIsAResult) {
  const auto fill = [](Outputs& out) {
    const std::span<std::uint8_t> y = out.Buffer<std::uint8_t>("y", {4});
    std::fill(y.begin(), y.end(), std::uint8_t{0xa5});
  };
  EXPECT_THAT(RunRepeated(fill, kPlain), IsBitExact());
}

TEST(OutputsTest, AccumulatingIntoAnUnsetBufferIsFound) {
  const auto accumulate = [](Outputs& out) {
    for (std::int32_t& y : out.Buffer<std::int32_t>("y", {4})) y += 1;
  };
  EXPECT_THAT(RunRepeated(accumulate, kPlain), IsNondeterministic());
}

TEST(OutputsTest, SeveralBuffersInTheOrderOfTheirRequest) {
  int run = 0;
  const Report report = RunRepeated(
      [&run](Outputs& out) {
        out.Buffer<float>("a", {1})[0] = 1;
        out.Buffer<float>("b", {})[0] = run++ == 2 ? 5.f : 2.f;
        out.Buffer<float>("b", {})[0] += 0;  // the same buffer again, not poisoned again
      },
      kPlain);
  ASSERT_TRUE(report.first_divergence.has_value());
  EXPECT_EQ(report.first_divergence->part, "b");
  EXPECT_EQ(report.first_divergence->part_index, 1);
  EXPECT_EQ(report.first_divergence->run, 2);
  EXPECT_EQ(report.power.deviations, 1);
}

TEST(OutputsTest, ShapeThatChangesIsADifference) {
  std::int64_t n = 3;
  const Report report = RunRepeated(
      [&n](Outputs& out) {
        for (float& y : out.Buffer<float>("y", {n})) y = 1;
        n = 4;
      },
      kPlain);
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(report.first_divergence->diff.mismatch, "float32[4] instead of float32[3]");
}

TEST(OutputsTest, BufferThatIsNotAskedForAgainIsMissing) {
  int run = 0;
  const Report report = RunRepeated(
      [&run](Outputs& out) {
        out.Buffer<int>("a", {1})[0] = 1;
        if (run++ != 1) out.Buffer<int>("b", {1})[0] = 2;
      },
      kPlain);
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(report.first_divergence->diff.mismatch, "part 'b' is missing");
}

TEST(OutputsTest, OneNameForTwoThingsIsAnError) {
  const auto twice = [](Outputs& out) {
    out.Buffer<int>("a", {1})[0] = 1;
    out.Buffer<int>("a", {2})[0] = 1;
  };
  const Report report = RunRepeated(twice, kPlain);
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_THAT(report.reason, HasSubstr("output 'a' was asked for twice in one run, as two things"));
}

TEST(OutputsTest, ImpossibleShapesAreErrors) {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{-1}, {std::int64_t{1} << 40, std::int64_t{1} << 40}}) {
    const Report report = RunRepeated([&shape](Outputs& out) { out.Buffer<float>("a", shape); }, kPlain);
    EXPECT_EQ(report.outcome, Outcome::kError);
    EXPECT_THAT(report.reason, HasSubstr("output 'a'"));
  }
}

TEST(OutputsTest, MemoryThatTheHostCannotRead) {
  const FarMemory far;
  int run = 0, hole = -1;
  const auto kernel = [&](Outputs& out) {
    auto* y = static_cast<float*>(FarMemory::Near(out.Buffer("y", DType::kFloat32, {300}, far)));
    for (int i = 0; i < 300; ++i) {
      if (i != hole) y[i] = static_cast<float>(i);
    }
    if (run++ == 4) y[7] = -1;
  };
  const Report report = RunRepeated(kernel, kPlain);
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(report.first_divergence->run, 4);
  EXPECT_EQ(report.first_divergence->diff.element, 7);
  EXPECT_GT(far.synchronizations, 0);
  EXPECT_GE(far.comparisons, 5);

  EXPECT_THAT(RunRepeated(kernel, kPlain), IsBitExact());
  hole = 299;
  EXPECT_THAT(RunRepeated(kernel, kPlain).reason, HasSubstr("element 299 of output 'y' was never written"));
}

}  // namespace
}  // namespace gtest_determinism
