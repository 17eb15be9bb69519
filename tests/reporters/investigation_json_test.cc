#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "reporters/writers.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"
#include "tests/reporters/schema_validator.h"

namespace reporters {
namespace {

using Json = nlohmann::ordered_json;

std::string Text(const VariantRecord& record) {
  std::ostringstream out;
  WriteInvestigationJson(out, record, DeriveVerdict(record));
  return out.str();
}

TEST(InvestigationJson, Golden) {
  EXPECT_TRUE(MatchesGolden(Text(BitExactRecord()), "bit_exact.json"));
  EXPECT_TRUE(MatchesGolden(Text(NondeterministicRecord()), "nondeterministic.json"));
  EXPECT_TRUE(MatchesGolden(Text(GpuRecord()), "gpu.json"));
  EXPECT_TRUE(MatchesGolden(Text(FailedRecord()), "failure.json"));
}

std::vector<VariantRecord> EveryKind() {
  std::vector<VariantRecord> records = {BitExactRecord(), NondeterministicRecord(), GpuRecord(), FailedRecord()};
  VariantRecord record = NondeterministicRecord();  // tokens part, NaN, logits, no deterministic mode, no expectation
  record.baseline.tokens[4][1] = 99;
  record.baseline.logits_l2 = {0, 0, 0, 1, 2};
  record.deterministic = {};
  record.expected.clear();
  records.push_back(record);
  record.baseline.logprobs[5][3] = std::numeric_limits<float>::quiet_NaN();
  record.baseline.top10[0][0].second = -std::numeric_limits<float>::infinity();
  record.evidence.largest_difference = std::numeric_limits<double>::infinity();
  records.push_back(record);
  record = BitExactRecord();
  record.controls.clear();
  record.profile = {};
  records.push_back(record);  // inconclusive
  record = BitExactRecord();
  record.profile.kernels[0].device = "cuda:0";
  records.push_back(record);
  return records;
}

TEST(InvestigationJson, SatisfiesTheSchema) {
  for (const VariantRecord& record : EveryKind()) EXPECT_EQ(SchemaErrors(Text(record)), "") << Text(record);
}

// Calls `visit` with a pointer to each value of the document below arrays' first elements.
void Walk(const Json& json, const Json::json_pointer& at, const std::function<void(const Json::json_pointer&)>& visit) {
  if (json.is_object()) {
    for (auto it = json.begin(); it != json.end(); ++it) {
      visit(at / it.key());
      Walk(*it, at / it.key(), visit);
    }
  } else if (json.is_array() && !json.empty()) {
    Walk(json[0], at / 0, visit);
  }
}

bool IsFreeMap(const std::string& path) {
  return path.find("/settings/") != std::string::npos || path.find("/environment/variables/") != std::string::npos ||
         path == "/environment/cpu" || path == "/environment/torch";
}

TEST(InvestigationJson, SchemaNoticesEveryMissingKeyAndWrongType) {
  int keys = 0;
  for (const VariantRecord& record : {BitExactRecord(), NondeterministicRecord(), GpuRecord(), FailedRecord()}) {
    const Json whole = Json::parse(Text(record));
    Walk(whole, Json::json_pointer(), [&](const Json::json_pointer& at) {
      ++keys;
      Json wrong = whole;
      wrong[at] = Json{{"not", {{"of this", {{"type", 1}}}}}};
      EXPECT_NE(SchemaErrors(wrong.dump()), "") << "wrong type at " << at.to_string();
      if (IsFreeMap(at.to_string())) return;
      Json missing = whole;
      missing[at.parent_pointer()].erase(at.back());
      EXPECT_NE(SchemaErrors(missing.dump()), "") << "without " << at.to_string();
    });
  }
  EXPECT_GT(keys, 400) << "the walk must reach the inner objects";
}

TEST(InvestigationJson, SchemaNoticesContradictions) {
  const Json whole = Json::parse(Text(BitExactRecord()));
  const std::pair<const char*, Json> edits[] = {{"/verdict/is_deterministic", nullptr},
                                                {"/verdict/summary", "BASELINE IS INCONCLUSIVE"},
                                                {"/verdict/summary", "FINE"},
                                                {"/kernels/all_kernels", Json::array()},
                                                {"/schema_version", "2.0.0"},
                                                {"/success", false},
                                                {"/power/upper_bound", 1.5},
                                                {"/patterns/list/0/digest", "A0"},
                                                {"/deterministic/succeeded", false},
                                                {"/baseline/tokens/0/0", "11"},
                                                {"/first_divergence", Json::object()},
                                                {"/outcome", "fine"}};
  for (const auto& [at, value] : edits) {
    Json edited = whole;
    edited[Json::json_pointer(at)] = value;
    EXPECT_NE(SchemaErrors(edited.dump()), "") << at;
  }
}

TEST(InvestigationJson, TheDocumentsKeysComeFirstInItsOrder) {
  const Json json = Json::parse(Text(NondeterministicRecord()));
  const auto keys = [](const Json& object, std::size_t n) {
    std::vector<std::string> names;
    for (auto it = object.begin(); it != object.end() && names.size() < n; ++it) names.push_back(it.key());
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(keys(json, 13),
            (Names{"variant", "experiment", "timestamp", "model", "quantization", "description", "config",
                   "prompt_length", "baseline", "deterministic", "kernels", "verdict", "success"}));
  EXPECT_EQ(keys(json["config"], 99),
            (Names{"tensor_parallel", "max_model_len", "max_tokens", "repetitions", "temperature", "seed"}));
  EXPECT_EQ(keys(json["baseline"], 3), (Names{"stats", "tokens", "logprobs"}));
  EXPECT_EQ(keys(json["deterministic"], 4), (Names{"succeeded", "stats", "tokens", "logprobs"}));
  EXPECT_EQ(keys(json["baseline"]["stats"], 9),
            (Names{"tokens_identical", "logprobs_exact", "l2_mean", "l2_std", "l2_max", "l2_min", "std_per_token_mean",
                   "std_per_token_max", "std_per_token_min"}));
  EXPECT_EQ(keys(json["kernels"], 5),
            (Names{"profiling_succeeded", "all_kernels", "marlin_kernels", "gemm_kernels", "dequant_kernels"}));
  EXPECT_EQ(keys(json["verdict"], 6), (Names{"is_deterministic", "deterministic_mode_tested", "summary", "root_cause",
                                             "forensic_implications", "details"}));
  const Json failure = Json::parse(Text(FailedRecord()));
  EXPECT_EQ(keys(failure, 3), (Names{"variant", "error", "success"}));
}

TEST(InvestigationJson, FailedDeterministicModeHasTheDocumentsForm) {
  VariantRecord record = BitExactRecord();
  record.deterministic = {};
  record.deterministic.attempted = true;
  record.deterministic.error = "no such op";
  EXPECT_EQ(Json::parse(Text(record))["deterministic"].dump(),
            R"({"succeeded":false,"error":"no such op","stats":null,"tokens":[],"logprobs":[]})");
}

TEST(InvestigationJson, KernelsAreSortedByTimeAndListed) {
  const Json kernels = Json::parse(Text(BitExactRecord()))["kernels"];
  const auto names = [](const Json& list) {
    std::vector<std::string> result;
    for (const auto& kernel : list) result.push_back(kernel["name"]);
    return result;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(kernels["all_kernels"]),
            (Names{"int4::marlin_gemm", "aten::linear", "int4::dequantize", "aten::embedding"}));
  EXPECT_EQ(names(kernels["marlin_kernels"]), (Names{"int4::marlin_gemm"}));
  EXPECT_EQ(names(kernels["gemm_kernels"]), (Names{"int4::marlin_gemm", "aten::linear"}));
  EXPECT_EQ(names(kernels["dequant_kernels"]), (Names{"int4::dequantize"}));
  EXPECT_TRUE(kernels["profiling_succeeded"]);
  VariantRecord lost = BitExactRecord();
  lost.profile.status = ProfileStatus::kIncomplete;
  EXPECT_FALSE(Json::parse(Text(lost))["kernels"]["profiling_succeeded"]);
}

TEST(InvestigationJson, NumbersReadBackToTheSameBits) {
  VariantRecord record = BitExactRecord();
  const std::vector<float> values = {std::nextafter(-1.0f, 0.0f), -1e-45f, -3.4028235e38f, -0.0f};
  for (auto& row : record.baseline.logprobs) row = values;
  const Json json = Json::parse(Text(record));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float read = json["baseline"]["logprobs"][3][i].get<float>();
    EXPECT_EQ(std::memcmp(&read, &values[i], sizeof(read)), 0) << values[i];
  }
}

TEST(InvestigationJson, NanAndInfinityAreNullWithAReason) {
  VariantRecord record = BitExactRecord();
  record.baseline.logprobs[0][1] = std::numeric_limits<float>::quiet_NaN();
  const Json json = Json::parse(Text(record));
  EXPECT_TRUE(json["baseline"]["logprobs"][0][1].is_null());
  EXPECT_TRUE(json["baseline"]["stats"]["l2_mean"].is_null());
  EXPECT_THAT(json["baseline"]["stats"]["reason"].get<std::string>(), testing::HasSubstr("position 1 is NaN"));
}

TEST(InvestigationJson, InvalidUtf8IsReplaced) {
  VariantRecord record = BitExactRecord();
  record.text = "caf\xE9 \xF0\x9F\x98\x80 \xC3";
  record.environment.variables["QUANT_MODELS_DIR"] = "\xFF";
  const Json json = Json::parse(Text(record));
  EXPECT_EQ(json["text"], "caf\xEF\xBF\xBD \xF0\x9F\x98\x80 \xEF\xBF\xBD");
}

TEST(InvestigationJson, TheWriterDoesNotJudgeTheSwitch) {
  Verdict verdict = DeriveVerdict(NondeterministicRecord());
  verdict.switch_ends_it = {Finding::kRefuted, "what the verdict says"};
  std::ostringstream out;
  WriteInvestigationJson(out, NondeterministicRecord(), verdict);
  EXPECT_EQ(Json::parse(out.str())["evidence"]["switch_ends_it"].dump(),
            R"({"finding":"refuted","detail":"what the verdict says"})");
}

}  // namespace
}  // namespace reporters
