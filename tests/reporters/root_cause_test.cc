// Each rule of the root cause in docs/verdicts.md, and beside it the evidence
// from which only that rule's cause was taken out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "reporters/verdict.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"

namespace reporters {
namespace {

using testing::HasSubstr;
using testing::Not;

struct CauseCase {
  const char* name;
  const char* rule;
  const char* begins;
  std::function<void(EvidenceRecord&)> change;  // of the evidence of GpuRecord()
};
void PrintTo(const CauseCase& c, std::ostream* out) { *out << c.name; }

class RootCauseRule : public testing::TestWithParam<CauseCase> {};

TEST_P(RootCauseRule, FollowsFromTheEvidence) {
  VariantRecord record = GpuRecord();
  GetParam().change(record.evidence);
  const Verdict verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.root_cause_rule, GetParam().rule) << verdict.root_cause;
  EXPECT_THAT(verdict.root_cause, testing::StartsWith(GetParam().begins));
}

INSTANTIATE_TEST_SUITE_P(
    Rule, RootCauseRule,
    testing::Values(
        CauseCase{"AtomicsOfAForeignKernel", "C2",
                  "Order of accumulation in layer 0 down_proj, by atomic floating-point additions. It is",
                  [](EvidenceRecord&) {}},
        CauseCase{"TwinThatEndsIt", "C1", "Order of accumulation in layer 0 down_proj. It is",
                  [](EvidenceRecord& e) { e.ordered_twin_exact.finding = Finding::kShown; }},
        CauseCase{"TwinThatDiffersToo", "C3", "layer 0 down_proj is non-deterministic by itself; whether by the atomic",
                  [](EvidenceRecord& e) { e.ordered_twin_exact.finding = Finding::kRefuted; }},
        CauseCase{"BeyondTheBound", "C3", "layer 0 down_proj is non-deterministic by itself; whether by the atomic",
                  [](EvidenceRecord& e) { e.within_rounding_bound.finding = Finding::kRefuted; }},
        CauseCase{"AttentionHasNoBound", "C3",
                  "layer 3 attention is non-deterministic by itself; whether by the atomic",
                  [](EvidenceRecord& e) {
                    e.first_operation_name = "layer 3 attention";
                    e.first_operation_is_int4 = false;
                    e.within_rounding_bound = {Finding::kNotLookedAt, "not an INT4 matmul"};
                  }},
        CauseCase{"NoAtomics", "C4", "layer 0 down_proj is non-deterministic by itself, and not by atomic additions",
                  [](EvidenceRecord& e) { e.float_atomics.finding = Finding::kRefuted; }},
        CauseCase{"MachineCodeNotRead", "C5", "layer 0 down_proj is non-deterministic by itself; by which mechanism",
                  [](EvidenceRecord& e) {
                    e.float_atomics = {Finding::kNotLookedAt, "no nvdisasm"};
                  }},
        CauseCase{"NotAlone", "C6", "Unknown; the first operation that differs is layer 0 down_proj",
                  [](EvidenceRecord& e) { e.replay_differs.finding = Finding::kRefuted; }},
        CauseCase{"NotReplayed", "C6", "Unknown; the first operation that differs is layer 0 down_proj",
                  [](EvidenceRecord& e) { e.replay_differs.finding = Finding::kNotLookedAt; }},
        CauseCase{"NotLocated", "C7", "Unknown: no operation was shown to differ first",
                  [](EvidenceRecord& e) { e.first_operation.finding = Finding::kNotLookedAt; }},
        CauseCase{"Nothing", "C7", "Unknown: no operation was shown to differ first",
                  [](EvidenceRecord& e) { e = EvidenceRecord(); }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(RootCause, SaysWhatTheKernelsHoldAndThatTheSwitchDoesNotReachThem) {
  const std::string cause = DeriveVerdict(GpuRecord()).root_cause;
  EXPECT_THAT(cause, HasSubstr("It launched vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 1>(__half const*) (8 "
                               "ATOM.E.ADD.F16x2.RN.STRONG.GPU), fill. Their machine code adds"));
  EXPECT_THAT(cause, HasSubstr("The deterministic switch does not reach the operation: 30 bit patterns in 100 runs"));
  EXPECT_THAT(cause,
              HasSubstr("The deterministic mode does not: the switch does not end it: 5 of 5 comparisons differ"));
  VariantRecord record = GpuRecord();
  record.evidence.switch_on_operation.finding = Finding::kShown;
  record.evidence.switch_patterns = 1;
  EXPECT_THAT(DeriveVerdict(record).root_cause,
              HasSubstr("The deterministic switch ends it in the operation alone: 1 bit pattern in 100 runs"));
  record.evidence.switch_on_operation.finding = Finding::kNotLookedAt;
  EXPECT_THAT(DeriveVerdict(record).root_cause, Not(HasSubstr("The deterministic switch")));
}

TEST(RootCause, OfABitExactRecordThereIsNone) {
  EXPECT_EQ(DeriveVerdict(BitExactRecord()).root_cause_rule, "C0");
  VariantRecord record = GpuRecord();
  record.controls.clear();
  EXPECT_EQ(DeriveVerdict(record).root_cause_rule, "C0");
}

TEST(RootCause, NamesTheOrderOnlyWhereAllThreeWereShown) {
  const VariantRecord whole = NondeterministicRecord();
  EXPECT_THAT(DeriveVerdict(whole).root_cause,
              testing::StartsWith("Order of accumulation in layer 0 down_proj. It is the first operation whose bits "
                                  "differ between two repetitions, in decode step 1, and an INT4 matmul"));
  const std::function<void(EvidenceRecord&)> take_out[] = {
      [](EvidenceRecord& e) { e.replay_differs.finding = Finding::kNotLookedAt; },
      [](EvidenceRecord& e) { e.ordered_twin_exact.finding = Finding::kRefuted; },
      [](EvidenceRecord& e) { e.within_rounding_bound.finding = Finding::kRefuted; },
      [](EvidenceRecord& e) { e.first_operation.finding = Finding::kNotLookedAt; },
  };
  for (const auto& take : take_out) {
    VariantRecord record = whole;
    take(record.evidence);
    const std::string cause = DeriveVerdict(record).root_cause;
    EXPECT_THAT(cause, Not(HasSubstr("Order of accumulation")));
    EXPECT_THAT(cause, HasSubstr("nknown"));
  }
}

TEST(RootCause, WithoutEvidenceIsUnknown) {
  VariantRecord record = NondeterministicRecord();
  record.evidence = {};
  record.deterministic = {};
  EXPECT_EQ(DeriveVerdict(record).root_cause, "Unknown: no operation was shown to differ first.");
}

TEST(RootCause, SaysNothingTwice) {
  VariantRecord record = NondeterministicRecord();
  record.evidence.first_operation.detail = "the first of 3450 operations";
  record.evidence.replay_differs.detail = "31 distinct patterns in 100 runs";
  record.evidence.within_rounding_bound.detail = "largest difference 0.0039";
  const std::string cause = DeriveVerdict(record).root_cause;
  EXPECT_THAT(cause, HasSubstr("Alone on frozen inputs it gave 31 bit patterns in 100 runs. Its ordered twin gives"));
  for (const char* detail : {"3450", "31 distinct", "largest difference", "(100 runs)"}) {
    EXPECT_THAT(cause, Not(HasSubstr(detail)));
  }
}

TEST(RootCause, SaysWhyNoOperationWasLookedAt) {
  VariantRecord record = NondeterministicRecord();
  record.evidence = {};
  record.evidence.first_operation.detail = "the runtime does not show its operations' outputs";
  EXPECT_THAT(DeriveVerdict(record).root_cause,
              HasSubstr("no operation was shown to differ first, the runtime does not show its operations' outputs. "));
}

TEST(RootCause, SaysWhatIsLargerThanRounding) {
  VariantRecord record = NondeterministicRecord();
  record.evidence.within_rounding_bound.finding = Finding::kRefuted;
  record.evidence.largest_difference = 3;
  EXPECT_THAT(DeriveVerdict(record).root_cause, HasSubstr("larger than re-ordered rounding explains: 3.00e+00"));
}

// Kernels whose operator is not known are said, not hidden.
TEST(Details, CountKernelsWithoutAnOperator) {
  EXPECT_THAT(DeriveVerdict(GpuRecord()).details,
              testing::Contains("3 kernel executions in the profiled pass belong to no operator that is known"));
  EXPECT_THAT(DeriveVerdict(BitExactRecord()).details, Not(testing::Contains(HasSubstr("belong to no operator"))));
}

TEST(KernelLists, AKernelThatIsKnownToBeNoneIsInNoneWhateverItsName) {
  KernelEntry kernel{"cutlass_fmha_marlin_quant", "cuda:0", 1, 1, KernelKind::kOther};
  EXPECT_TRUE(IsGemmKernel(kernel) && IsMarlinKernel(kernel) && IsDequantKernel(kernel));
  kernel.kind = KernelKind::kNone;
  EXPECT_FALSE(IsGemmKernel(kernel) || IsMarlinKernel(kernel) || IsDequantKernel(kernel));
}

TEST(RootCauseDocs, EveryRuleIsWrittenDown) {
  const std::string text = ReadAll(std::string(REPORTERS_SOURCE_DIR) + "/docs/verdicts.md");
  for (int rule = 0; rule <= 7; ++rule) {
    EXPECT_NE(text.find("| C" + std::to_string(rule) + " |"), std::string::npos) << rule;
  }
}

}  // namespace
}  // namespace reporters
