#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ostream>
#include <sstream>

#include "reporters/exclusive_file.h"
#include "reporters/json_text.h"
#include "reporters/writers.h"

namespace reporters {
namespace {

using gtest_determinism::ControlResult;
using gtest_determinism::Report;
using Json = nlohmann::ordered_json;

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string Hex(std::uint64_t word, gtest_determinism::DType dtype) {
  char text[24];
  std::snprintf(text, sizeof(text), "0x%0*llx", static_cast<int>(2 * gtest_determinism::SizeOf(dtype)),
                static_cast<unsigned long long>(word));
  return text;
}

Json StatsJson(const NoiseStatistics& noise) {
  Json stats = {
      {"tokens_identical", noise.tokens_identical},
      {"logprobs_exact", noise.logprobs_exact},
      {"l2_mean", OrNull(noise.l2_mean)},
      {"l2_std", OrNull(noise.l2_std)},
      {"l2_max", OrNull(noise.l2_max)},
      {"l2_min", OrNull(noise.l2_min)},
      {"std_per_token_mean", OrNull(noise.std_per_token_mean)},
      {"std_per_token_max", OrNull(noise.std_per_token_max)},
      {"std_per_token_min", OrNull(noise.std_per_token_min)},
      {"logits_exact", noise.logits_exact},
      {"reason", noise.reason.empty() ? Json(nullptr) : Json(noise.reason)},
      {"parting_position", OrNull(noise.parting_position)},
      {"common_prefix", nullptr},
      {"logits_l2", nullptr},
  };
  if (noise.parting_position) {
    stats["common_prefix"] = {
        {"length", *noise.parting_position},
        {"l2_mean", OrNull(noise.prefix_l2_mean)},
        {"l2_std", OrNull(noise.prefix_l2_std)},
        {"l2_max", OrNull(noise.prefix_l2_max)},
        {"l2_min", OrNull(noise.prefix_l2_min)},
        {"std_per_token_mean", OrNull(noise.prefix_std_per_token_mean)},
        {"std_per_token_max", OrNull(noise.prefix_std_per_token_max)},
        {"std_per_token_min", OrNull(noise.prefix_std_per_token_min)},
    };
  }
  if (noise.logits_l2_mean) {
    stats["logits_l2"] = {{"mean", *noise.logits_l2_mean},
                          {"std", *noise.logits_l2_std},
                          {"max", *noise.logits_l2_max},
                          {"min", *noise.logits_l2_min}};
  }
  return stats;
}

Json PowerJson(const Report& report) {
  return {
      {"property", report.property},
      {"requested_runs", report.requested_runs},
      {"runs", report.runs},
      {"inputs", report.inputs},
      {"elements", report.elements},
      {"bytes", report.bytes},
      {"comparisons", report.power.comparisons},
      {"deviations", report.power.deviations},
      {"rate", report.power.rate},
      {"confidence", report.power.confidence},
      {"lower_bound", report.power.lower_bound},
      {"upper_bound", report.power.upper_bound},
      {"assumption", "runs are independent"},
      {"perturbations", report.perturbations},
      {"stopped_early", report.stopped_early},
  };
}

Json PatternsJson(const Report& report) {
  Json list = Json::array();
  for (const auto& pattern : report.patterns) {
    list.push_back({{"digest", gtest_determinism::ToHex(pattern.digest)},
                    {"runs", pattern.runs},
                    {"first_run", pattern.first_run}});
  }
  return {{"distinct", report.patterns.size()},
          {"compared_by", report.compared_by_digest_only ? "digest" : "bytes"},
          {"list", list},
          {"of_run", report.pattern_of_run}};
}

Json DivergenceJson(const Report& report) {
  if (!report.first_divergence) return nullptr;
  const auto& first = *report.first_divergence;
  const auto& diff = first.diff;
  Json json = {{"run", first.run},
               {"input", first.input},
               {"part", first.part},
               {"part_index", first.part_index},
               {"different_parts", first.different_parts},
               {"parts", first.parts},
               {"mismatch", diff.mismatch.empty() ? Json(nullptr) : Json(diff.mismatch)},
               {"dtype", gtest_determinism::NameOf(diff.dtype)},
               {"shape", diff.shape},
               {"elements", diff.elements},
               {"different_elements", diff.different_elements},
               {"different_bytes", diff.different_bytes},
               {"element", diff.element},
               {"coordinate", diff.coordinate},
               {"expected_word", Hex(diff.expected_word, diff.dtype)},
               {"actual_word", Hex(diff.actual_word, diff.dtype)},
               {"expected_value", diff.expected_value},
               {"actual_value", diff.actual_value},
               {"ulp", OrNull(diff.ulp)},
               {"max_abs_difference", OrNull(diff.max_abs_difference)},
               {"max_ulp", OrNull(diff.max_ulp)}};
  return json;
}

Json SettingsJson(const ModeRecord& mode) {
  Json settings = Json::object();
  for (const auto& [name, value] : mode.settings) settings[name] = value;
  return settings;
}

Json Top10Json(const ModeRecord& mode) {
  Json positions = Json::array();
  for (const auto& position : mode.top10) {
    Json row = Json::array();
    for (const auto& [id, logprob] : position) row.push_back(Json::array({id, logprob}));
    positions.push_back(row);
  }
  return positions;
}

Json BaselineJson(const ModeRecord& mode, const NoiseStatistics& noise) {
  return {{"stats", StatsJson(noise)}, {"tokens", mode.tokens},   {"logprobs", mode.logprobs},
          {"top10", Top10Json(mode)},  {"seconds", mode.seconds}, {"settings", SettingsJson(mode)}};
}

Json DeterministicJson(const ModeRecord& mode, const NoiseStatistics& noise) {
  if (!mode.succeeded) {
    return {{"succeeded", false},
            {"error", mode.error.empty() ? (mode.attempted ? "failed without a reason" : "not tried") : mode.error},
            {"stats", nullptr},
            {"tokens", Json::array()},
            {"logprobs", Json::array()}};
  }
  return {{"succeeded", true},
          {"stats", StatsJson(noise)},
          {"tokens", mode.tokens},
          {"logprobs", mode.logprobs},
          {"seconds", mode.seconds},
          {"settings", SettingsJson(mode)},
          {"outcome", gtest_determinism::NameOf(mode.report.outcome)},
          {"power", PowerJson(mode.report)},
          {"patterns", PatternsJson(mode.report)},
          {"first_divergence", DivergenceJson(mode.report)}};
}

Json KernelsJson(const KernelProfile& profile) {
  std::vector<KernelEntry> kernels = profile.kernels;
  std::stable_sort(kernels.begin(), kernels.end(),
                   [](const KernelEntry& a, const KernelEntry& b) { return a.time_us > b.time_us; });
  const auto list = [&](bool (*wanted)(const KernelEntry&)) {
    Json entries = Json::array();
    for (const KernelEntry& kernel : kernels) {
      if (!wanted(kernel)) continue;
      Json entry = {
          {"name", kernel.name},
          {"device", kernel.device},
          {"count", kernel.count},
          {"time_us", kernel.time_us},
          {"avg_time_us", kernel.count > 0 ? Json(kernel.time_us / static_cast<double>(kernel.count)) : Json(nullptr)}};
      if (kernel.device.rfind("cuda", 0) == 0) {
        entry["cuda_time_us"] = kernel.time_us;
        entry["operator"] = kernel.op.empty() ? Json(nullptr) : Json(kernel.op);
        entry["registers"] = kernel.registers;
        entry["static_shared_bytes"] = kernel.static_shared_bytes;
        entry["dynamic_shared_bytes"] = kernel.dynamic_shared_bytes;
        entry["grid"] = kernel.grid;
        entry["block"] = kernel.block;
      }
      entries.push_back(entry);
    }
    return entries;
  };
  return {{"profiling_succeeded", profile.status == ProfileStatus::kOk && !kernels.empty()},
          {"all_kernels", list([](const KernelEntry&) { return true; })},
          {"marlin_kernels", list(IsMarlinKernel)},
          {"gemm_kernels", list(IsGemmKernel)},
          {"dequant_kernels", list(IsDequantKernel)},
          {"status", NameOf(profile.status)},
          {"reason", profile.reason.empty() ? Json(nullptr) : Json(profile.reason)},
          {"expected_kernel", profile.expected_kernel},
          {"expected_count", profile.expected_count},
          {"expected_at_least", profile.expected_at_least},
          {"unattributed", profile.unattributed}};
}

Json VerdictJson(const Verdict& verdict) {
  return {{"is_deterministic", OrNull(verdict.is_deterministic)},
          {"deterministic_mode_tested", verdict.deterministic_mode_tested},
          {"summary", verdict.summary},
          {"root_cause", verdict.root_cause},
          {"forensic_implications", verdict.forensic_implications},
          {"details", verdict.details},
          {"rule", verdict.rule},
          {"reason", verdict.reason.empty() ? Json(nullptr) : Json(verdict.reason)},
          {"root_cause_rule", verdict.root_cause_rule}};
}

Json EvidenceJson(const EvidenceRecord& evidence, const Verdict& verdict) {
  const auto item = [](const Evidence& e) { return Json{{"finding", NameOf(e.finding)}, {"detail", e.detail}}; };
  Json json;
  json["first_operation"] = item(evidence.first_operation);
  json["first_operation"]["name"] = evidence.first_operation_name;
  json["first_operation"]["step"] = evidence.first_operation_step;
  json["first_operation"]["is_int4_matmul"] = evidence.first_operation_is_int4;
  json["replay_differs"] = item(evidence.replay_differs);
  json["replay_differs"]["runs"] = evidence.replay_runs;
  json["replay_differs"]["patterns"] = evidence.replay_patterns;
  json["ordered_twin_exact"] = item(evidence.ordered_twin_exact);
  json["within_rounding_bound"] = item(evidence.within_rounding_bound);
  json["within_rounding_bound"]["largest_difference"] = evidence.largest_difference;
  json["within_rounding_bound"]["bound"] = evidence.rounding_bound;
  json["switch_ends_it"] = item(verdict.switch_ends_it);
  json["replay_kernels"] = item(evidence.replay_kernels);
  json["replay_kernels"]["list"] = Json::array();
  for (const ReplayKernel& kernel : evidence.kernels) {
    json["replay_kernels"]["list"].push_back(
        {{"name", kernel.name}, {"per_run", kernel.per_run}, {"float_atomics", item(kernel.float_atomics)}});
  }
  json["float_atomics"] = item(evidence.float_atomics);
  json["switch_on_operation"] = item(evidence.switch_on_operation);
  json["switch_on_operation"]["runs"] = evidence.switch_runs;
  json["switch_on_operation"]["patterns"] = evidence.switch_patterns;
  return json;
}

Json InterventionsJson(const Verdict& verdict) {
  Json list = Json::array();
  for (const Intervention& intervention : verdict.interventions) {
    list.push_back({{"name", intervention.name},
                    {"finding", NameOf(intervention.finding)},
                    {"detail", intervention.detail},
                    {"comparisons", OrNull(intervention.comparisons)},
                    {"deviations", OrNull(intervention.deviations)},
                    {"p_value", OrNull(intervention.p_value)},
                    {"time_ratio", OrNull(intervention.time_ratio)}});
  }
  return list;
}

Json ControlsJson(const VariantRecord& record) {
  Json list = Json::array();
  for (const auto* controls : {&record.controls, &record.baseline.report.controls}) {
    for (const ControlResult& control : *controls) {
      list.push_back({{"name", control.name},
                      {"expects_difference", control.expects_difference},
                      {"outcome", gtest_determinism::NameOf(control.outcome)},
                      {"runs", control.runs},
                      {"deviations", control.deviations},
                      {"as_expected", control.as_expected},
                      {"detail", control.detail}});
    }
  }
  return list;
}

Json CostJson(const Cost& cost) {
  return {{"load_seconds", cost.load_seconds},         {"warmup_seconds", cost.warmup_seconds},
          {"baseline_seconds", cost.baseline_seconds}, {"profile_seconds", cost.profile_seconds},
          {"control_seconds", cost.control_seconds},   {"evidence_seconds", cost.evidence_seconds},
          {"reload_seconds", cost.reload_seconds},     {"deterministic_seconds", cost.deterministic_seconds},
          {"total_seconds", cost.total_seconds}};
}

Json EnvironmentJson(const Environment& environment) {
  Json json = Json::object();
  for (const auto& [name, value] : environment.values) json[name] = value;
  json["argv"] = environment.argv;
  json["variables"] = Json::object();
  for (const auto& [name, value] : environment.variables) json["variables"][name] = value;
  return json;
}

Json ConfigJson(const RunConfig& config) {
  return {{"tensor_parallel", config.tensor_parallel}, {"max_model_len", config.max_model_len},
          {"max_tokens", config.max_tokens},           {"repetitions", config.repetitions},
          {"temperature", config.temperature},         {"seed", config.seed}};
}

// What ran, in both kinds of file.
void AddProvenance(const VariantRecord& record, Json* json) {
  (*json)["variant_model"] = record.table_model;
  (*json)["model_source"] = record.model_source;
  (*json)["model_path"] = record.model_path;
  (*json)["device"] = record.device;
  (*json)["provider"] = record.provider;
  Json libraries = Json::array();
  for (const auto& library : record.op_libraries) {
    libraries.push_back({{"name", library.name}, {"bytes", library.bytes}, {"digest", library.digest}});
  }
  (*json)["op_libraries"] = std::move(libraries);
  Json paths = Json::array();
  for (const auto& [rows, path] : record.kernel_paths) paths.push_back({{"rows", rows}, {"path", path}});
  (*json)["kernel_paths"] = std::move(paths);
  (*json)["kernel"] = record.kernel;
  (*json)["compute"] = record.compute;
  (*json)["note"] = record.note;
}

Json FailureJson(const VariantRecord& record, const Verdict& verdict) {
  Json json = {{"variant", record.variant},
               {"error", record.error.empty() ? verdict.reason : record.error},
               {"success", false},
               {"schema_version", kSchemaVersion},
               {"outcome", gtest_determinism::NameOf(verdict.outcome)},
               {"timestamp", record.started_at},
               {"model", record.model},
               {"quantization", record.quantization},
               {"description", record.description},
               {"config", ConfigJson(record.config)}};
  AddProvenance(record, &json);
  json["environment"] = EnvironmentJson(record.environment);
  return json;
}

Json InvestigationJson(const VariantRecord& record, const Verdict& verdict) {
  Json json = {
      {"variant", record.variant},
      {"experiment", "quantization_nondeterminism_investigation"},
      {"timestamp", record.started_at},
      {"model", record.model},
      {"quantization", record.quantization},
      {"description", record.description},
      {"config", ConfigJson(record.config)},
      {"prompt_length", record.prompt_length},
      {"baseline", BaselineJson(record.baseline, verdict.baseline_noise)},
      {"deterministic", DeterministicJson(record.deterministic, verdict.deterministic_noise)},
      {"kernels", KernelsJson(record.profile)},
      {"verdict", VerdictJson(verdict)},
      {"success", true},
      {"schema_version", kSchemaVersion},
      {"outcome", gtest_determinism::NameOf(verdict.outcome)},
      {"expected", record.expected.empty() ? Json(nullptr) : Json(record.expected)},
      {"met_expectation", verdict.met_expectation},
      {"expectation", verdict.expectation},
  };
  AddProvenance(record, &json);
  json["power"] = PowerJson(record.baseline.report);
  json["patterns"] = PatternsJson(record.baseline.report);
  json["first_divergence"] = DivergenceJson(record.baseline.report);
  json["evidence"] = EvidenceJson(record.evidence, verdict);
  json["interventions"] = InterventionsJson(verdict);
  json["controls"] = ControlsJson(record);
  json["warnings"] = verdict.warnings;
  json["cost"] = CostJson(record.cost);
  json["environment"] = EnvironmentJson(record.environment);
  json["prompt_ids"] = record.prompt_ids;
  json["text"] = record.text;
  return json;
}

}  // namespace

void WriteInvestigationJson(std::ostream& out, const VariantRecord& record, const Verdict& verdict) {
  out << PrettyJson(record.success ? InvestigationJson(record, verdict) : FailureJson(record, verdict)) << '\n';
}

std::filesystem::path WriteInvestigationFile(const std::filesystem::path& directory, const VariantRecord& record,
                                             const Verdict& verdict) {
  std::ostringstream text;
  WriteInvestigationJson(text, record, verdict);
  return CreateExclusively(directory, record.variant + "_investigation_" + CompactTime(record.started_at), ".json",
                           text.str());
}

}  // namespace reporters
