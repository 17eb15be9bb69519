#include "suites/int4/controls.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <memory>
#include <string>

#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"
#include "kernels/int4_matmul.h"
#include "reporters/record.h"
#include "suites/int4/undisturbed_runs.h"
#include "suites/startup/cores.h"

namespace suites {
namespace {

using gtest_determinism::ControlResult;
using gtest_determinism::Outcome;
using gtest_determinism::Report;
using gtest_determinism::RunRepeated;

constexpr std::int64_t kGroupSize = 128;

// Random codes and scales in GPTQ's layout, of the model's down_proj shape: the
// longest K of its layers, so the most partial sums.
kernels::QuantizedLinear RandomLinear(const ModelSizes& config, at::Generator& generator) {
  kernels::QuantizedLinear linear;
  linear.name = "control";
  linear.format = kernels::Format::kGptq;
  linear.k = (config.intermediate_size + kGroupSize - 1) / kGroupSize * kGroupSize;
  linear.n = (config.hidden_size + 7) / 8 * 8;
  linear.group_size = kGroupSize;
  const std::int64_t groups = linear.k / kGroupSize;
  const auto words = at::TensorOptions().dtype(at::kInt);
  linear.qweight =
      at::randint(-(1LL << 31), 1LL << 31, {linear.k / 8, linear.n}, generator, at::TensorOptions().dtype(at::kLong))
          .to(at::kInt);
  linear.qzeros = at::full({groups, linear.n / 8}, 0x77777777, words);
  linear.scales = (at::rand({groups, linear.n}, generator) * 0.01 + 0.005).to(at::kHalf);
  linear.gptq_v1_zeros = true;
  return linear;
}

ControlResult Judge(std::string name, bool expects_difference, const Report& report) {
  ControlResult result;
  result.name = std::move(name);
  result.expects_difference = expects_difference;
  result.outcome = report.outcome;
  result.runs = report.runs;
  result.deviations = report.power.deviations;
  result.as_expected = report.outcome == (expects_difference ? Outcome::kNondeterministic : Outcome::kBitExact);
  return result;
}

std::string Shape(std::int64_t m, const kernels::Int4Matmul& matmul) {
  return "[" + std::to_string(m) + ", " + std::to_string(matmul.k()) + "] x [" + std::to_string(matmul.k()) + ", " +
         std::to_string(matmul.n()) + "]";
}

// One bit of one logit of one repetition is flipped on the way to the compare
// path; it must be found, and found there.
ControlResult FlippedBit(const Generation& generation, int runs) {
  const LogitRows& logits = generation.step_logits;
  const std::size_t element_bytes = gtest_determinism::SizeOf(logits.dtype);
  const std::int64_t row = logits.rows / 2;
  const std::int64_t column = logits.vocab / 3;
  const int flipped_run = std::max(1, runs - 1);
  int run = 0;
  const Report report = RunRepeated(
      [&] {
        Generation copy = generation;  // shares the logits
        if (run++ == flipped_run) {
          // In the space where they are compared.
          copy.step_logits = logits.Clone();
          std::byte* const address =
              copy.step_logits.RowAddress(row) + static_cast<std::size_t>(column) * element_bytes;
          std::byte flipped{};
          logits.space->CopyToHost(&flipped, address, 1);
          flipped ^= std::byte{1};
          logits.space->Fill(address, static_cast<std::uint8_t>(flipped), 1);
        }
        return copy;
      },
      UndisturbedRuns(runs));
  ControlResult result = Judge(reporters::kFlippedLogitControl, true, report);
  const std::string part = "logits[" + std::to_string(row) + "]";
  const bool in_place = report.first_divergence && report.first_divergence->run == flipped_run &&
                        report.first_divergence->part == part && report.first_divergence->diff.element == column;
  result.as_expected = result.as_expected && in_place && report.power.deviations == 1;
  result.detail = "the lowest bit of " + part + " element " + std::to_string(column) + " was flipped in run " +
                  std::to_string(flipped_run) + (result.as_expected ? " and found there" : " and was not found there");
  return result;
}

}  // namespace

ControlResult MustDiffer(std::string name, const std::function<at::Tensor()>& run, int max_runs) {
  ControlResult result;
  result.name = std::move(name);
  result.outcome = Outcome::kBitExact;
  while (result.deviations < kMustDifferTimes && max_runs - result.runs >= 2) {
    const Report report = RunRepeated(run, UndisturbedRuns(max_runs - result.runs, /*stop_at_first_difference=*/true));
    result.runs += report.runs;
    if (report.outcome == Outcome::kNondeterministic) {
      ++result.deviations;
    } else if (report.outcome != Outcome::kBitExact) {
      result.outcome = report.outcome;
      result.detail = report.reason;
      return result;
    }
  }
  result.as_expected = result.deviations == kMustDifferTimes;
  if (result.deviations > 0) result.outcome = Outcome::kNondeterministic;
  const std::string runs = std::to_string(result.runs) + " runs";
  if (result.as_expected) {
    result.detail = "differed in " + std::to_string(kMustDifferTimes) + " comparisons, " + runs + " in all";
  } else if (result.deviations == 0) {
    result.detail = "did not differ in " + runs;
  } else {
    result.detail = "differed in " + std::to_string(result.deviations) + " of " + std::to_string(kMustDifferTimes) +
                    " comparisons in " + runs;
  }
  return result;
}

std::vector<ControlResult> RunControls(const ModelSizes& config, const Generation& generation,
                                       const ControlOptions& options) {
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  const kernels::QuantizedLinear linear = RandomLinear(config, generator);
  // The same numbers on every device; this project's kernel, whatever provider the variant has.
  const std::unique_ptr<kernels::Int4Matmul> matmul =
      kernels::MakeInt4Matmul({.family = "gptq", .provider = "builtin", .device = options.device}, linear);
  const at::Tensor x = at::randn({options.rows, linear.k}, generator).to(at::kHalf).to(at::Device(options.device));

  ControlResult must_show = MustDiffer(
      reporters::kArrivalOrderControl, [&] { return matmul->Forward(x); }, options.max_runs);
  must_show.detail = matmul->identity().op + " " + Shape(options.rows, *matmul) + ", " +
                     std::to_string((linear.k + 127) / 128) + " partial sums in arrival order: " + must_show.detail;
  if (!must_show.as_expected) {
    must_show.detail += " on " + (options.device == "cpu" ? std::to_string(UsableCores()) +
                                                                " usable core(s); run where at least two cores are free"
                                                          : options.device + "; run where the whole GPU is free");
  }

  const Report twin = RunRepeated([&] { return matmul->ForwardOrdered(x); }, UndisturbedRuns(options.runs));
  ControlResult must_not = Judge(reporters::kOrderedTwinControl, false, twin);
  must_not.detail = matmul->identity().ordered_op + " on the same numbers: " + std::to_string(twin.patterns.size()) +
                    (twin.patterns.size() == 1 ? " pattern in " : " patterns in ") + std::to_string(twin.runs) +
                    " runs";

  return {must_show, must_not, FlippedBit(generation, options.runs)};
}

}  // namespace suites
