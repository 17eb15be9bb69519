#include "tests/reporters/sample_records.h"

#include <cmath>

#include "gtest_determinism/statistics.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;

gtest_determinism::Digest DigestOf(std::uint8_t first) {
  gtest_determinism::Digest digest{};
  digest[0] = first;
  digest[15] = 0xEE;
  return digest;
}

void Fill(ModeRecord* mode, int runs) {
  mode->attempted = mode->succeeded = true;
  mode->report = ReportOf(runs, 0);
  for (int i = 0; i < runs; ++i) {
    mode->tokens.push_back({11, 12, 13, 14});
    mode->logprobs.push_back({-0.5f, -1.25f, -0.1f, -2.0f});
    mode->seconds.push_back(0.25 + 0.125 * (i % 2));
  }
  mode->top10 = {{{11, -0.5f}, {7, -1.5f}}, {{12, -1.25f}, {9, -1.5f}}, {{13, -0.1f}}, {{14, -2.0f}}};
  mode->settings = {{"deterministic_algorithms", "false"}};
}

}  // namespace

gtest_determinism::Report ReportOf(int runs, int deviating) {
  gtest_determinism::Report report;
  report.outcome = deviating > 0 ? Outcome::kNondeterministic : Outcome::kBitExact;
  report.requested_runs = report.runs = runs;
  report.inputs = 1;
  report.elements = 2056;
  report.bytes = 4160;
  report.patterns.push_back({DigestOf(0xA0), runs - deviating, 0});
  report.pattern_of_run.assign(static_cast<std::size_t>(runs), 0);
  report.distinct_of_input = {1 + (deviating > 0 ? 1 : 0)};
  report.power = gtest_determinism::ComputePower(runs > 0 ? runs - 1 : 0, deviating);
  report.perturbations = {"allocator_poison(seed=42)"};
  report.controls.push_back({"flipped_bit", true, Outcome::kNondeterministic, 2, 1, "found in element 1028", true});
  if (deviating > 0) {
    report.patterns.push_back({DigestOf(0xB1), deviating, runs - deviating});
    for (int i = runs - deviating; i < runs; ++i) report.pattern_of_run[static_cast<std::size_t>(i)] = 1;
    gtest_determinism::Divergence divergence;
    divergence.run = runs - deviating;
    divergence.part = "logits[2]";
    divergence.part_index = 2;
    divergence.different_parts = 3;
    divergence.parts = 6;
    auto& diff = divergence.diff;
    diff.equal = false;
    diff.dtype = gtest_determinism::DType::kFloat16;
    diff.shape = {1, 512};
    diff.elements = 512;
    diff.different_elements = 37;
    diff.different_bytes = 37;
    diff.element = 5;
    diff.coordinate = {0, 5};
    diff.expected_word = 0x3c00;
    diff.actual_word = 0x3c01;
    diff.expected_value = "1";
    diff.actual_value = "1.00098";
    diff.ulp = 1;
    diff.max_abs_difference = 0.001953125;
    diff.max_ulp = 2;
    report.first_divergence = divergence;
  }
  return report;
}

VariantRecord BitExactRecord() {
  VariantRecord record;
  record.variant = "awq_marlin";
  record.model = "tiny_qwen3-awq (embedded)";
  record.table_model = "Qwen/Qwen3-8B-AWQ";
  record.quantization = "awq_marlin";
  record.description = "AWQ INT4 with Marlin kernel";
  record.note = "a note";
  record.started_at = "2025-01-15T10:30:00.123456";
  record.config.repetitions = 6;
  record.config.max_tokens = 4;
  record.success = true;
  record.model_source = "embedded";
  record.model_path = "models/tiny_qwen3/awq";
  record.device = "cpu";
  record.provider = "builtin";
  record.kernel = "marlin";
  record.compute = "fp16";
  record.expected = "bit_exact";
  record.prompt_length = 3;
  record.prompt_ids = {1, 2, 3};
  record.text = "the quick";
  Fill(&record.baseline, 6);
  Fill(&record.deterministic, 6);
  record.deterministic.settings = {{"deterministic_algorithms", "true"}};
  record.profile.status = ProfileStatus::kOk;
  record.profile.kernels = {{"aten::embedding", "cpu", 5, 12.5, KernelKind::kOther},
                            {"int4::marlin_gemm", "cpu", 140, 8000, KernelKind::kMarlin},
                            {"int4::dequantize", "cpu", 2, 40, KernelKind::kDequant},
                            {"aten::linear", "cpu", 5, 900, KernelKind::kOther}};
  record.profile.expected_kernel = "int4::marlin_gemm";
  record.profile.expected_count = record.profile.expected_at_least = 140;
  record.controls = {
      {kArrivalOrderControl, true, Outcome::kNondeterministic, 3, 1, "[64, 768] x [768, 256] differed in run 2", true},
      {kOrderedTwinControl, false, Outcome::kBitExact, 20, 0, "1 pattern in 20 runs", true},
      {kFlippedLogitControl, true, Outcome::kNondeterministic, 20, 1, "found there", true}};
  record.environment.values = {{"cpu", "A CPU"}, {"torch", "2.11.0"}};
  record.environment.argv = {"quant_suites", "--variants", "awq_marlin"};
  record.environment.variables = {{"OMP_NUM_THREADS", "2"}};
  record.cost.load_seconds = 0.5;
  record.cost.baseline_seconds = 1.75;
  record.cost.total_seconds = 4.5;
  return record;
}

VariantRecord NondeterministicRecord() {
  VariantRecord record = BitExactRecord();
  record.variant = record.quantization = "gptq";
  record.model = "tiny_qwen3-gptq (embedded)";
  record.table_model = "JunHowie/Qwen3-8B-GPTQ-Int4";
  record.kernel = "gptq";
  record.expected = "nondeterministic";
  ModeRecord& baseline = record.baseline;
  baseline.report = ReportOf(6, 2);
  baseline.logprobs[4][2] = std::nextafter(-0.1f, 0.0f);
  baseline.logprobs[5][3] = std::nextafter(-2.0f, 0.0f);
  record.deterministic = ModeRecord();
  Fill(&record.deterministic, 20);
  for (double& seconds : record.deterministic.seconds) seconds *= 2;
  record.deterministic.warnings = {"gptq_gemm runs its ordered twin"};
  record.profile.expected_kernel = "int4::gptq_gemm";
  record.profile.kernels[1].name = "int4::gptq_gemm";
  record.profile.kernels[1].kind = KernelKind::kGemm;
  EvidenceRecord& evidence = record.evidence;
  evidence.first_operation = {Finding::kShown, "2 of 5 repetitions, 12 elements"};
  evidence.first_operation_name = "layer 0 down_proj";
  evidence.first_operation_step = 1;
  evidence.first_operation_is_int4 = true;
  evidence.replay_differs = {Finding::kShown, ""};
  evidence.replay_runs = 100;
  evidence.replay_patterns = 31;
  evidence.ordered_twin_exact = {Finding::kShown, "100 runs"};
  evidence.within_rounding_bound = {Finding::kShown, ""};
  evidence.largest_difference = 0.00390625;
  evidence.rounding_bound = 0.0625;
  return record;
}

VariantRecord GpuRecord() {
  VariantRecord record = NondeterministicRecord();
  record.device = "cuda:0";
  record.provider = "vllm";
  record.deterministic = ModeRecord();
  Fill(&record.deterministic, 6);
  record.deterministic.report = ReportOf(6, 5);
  record.deterministic.logprobs[5][2] = std::nextafter(-0.1f, 0.0f);
  KernelEntry gemm{"vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 1>(__half const*)", "cuda:0", 140, 900,
                   KernelKind::kGemm};
  gemm.op = "_C::gptq_gemm";
  gemm.registers = 96;
  gemm.static_shared_bytes = 256;
  gemm.dynamic_shared_bytes = 0;
  gemm.grid = {2, 1, 6};
  gemm.block = {128, 1, 1};
  KernelEntry unknown{"some_kernel", "cuda:0", 3, 4.5, KernelKind::kOther};
  unknown.grid = unknown.block = {1, 1, 1};
  record.profile.kernels = {gemm, unknown};
  record.profile.expected_kernel = "_C::gptq_gemm";
  record.profile.unattributed = 3;
  EvidenceRecord& evidence = record.evidence;
  evidence.ordered_twin_exact = {Finding::kNotLookedAt, "_C::gptq_gemm has no ordered twin"};
  evidence.replay_kernels = {Finding::kShown, "2 device functions"};
  evidence.kernels = {
      {gemm.name, 1, {Finding::kShown, "8 ATOM.E.ADD.F16x2.RN.STRONG.GPU"}},
      {"fill", 1, {Finding::kRefuted, "no atomic instruction"}},
  };
  evidence.float_atomics = {Finding::kShown, gemm.name + ": 8 ATOM.E.ADD.F16x2.RN.STRONG.GPU"};
  evidence.switch_on_operation = {Finding::kRefuted,
                                  "under the deterministic switch: 30 distinct patterns in 100 runs"};
  evidence.switch_runs = 100;
  evidence.switch_patterns = 30;
  return record;
}

VariantRecord FailedRecord() {
  VariantRecord record;
  record.variant = "openvino";
  record.model = record.table_model = "OpenVINO/Qwen3-8B-int4-ov";
  record.quantization = "openvino";
  record.description = "OpenVINO INT4";
  record.started_at = "2025-01-15T10:31:00.000001";
  record.error = "models/openvino: config.json is missing; give the folder of a whole checkpoint";
  record.environment.argv = {"quant_suites"};
  return record;
}

}  // namespace reporters
