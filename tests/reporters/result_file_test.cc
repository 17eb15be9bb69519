#include "reporters/result_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "reporters/writers.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"
#include "tests/reporters/temporary_folder.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Json = nlohmann::ordered_json;

const std::string kData = TESTS_DATA_DIR;

TEST(ReadResultFile, ReadsBackWhatWasWritten) {
  TemporaryFolder folder;
  for (const VariantRecord& record : {BitExactRecord(), NondeterministicRecord()}) {
    const Verdict verdict = DeriveVerdict(record);
    const ResultFile file = ReadResultFile(WriteInvestigationFile(folder.path(), record, verdict));
    EXPECT_EQ(file.kind, ResultKind::kInvestigation);
    EXPECT_EQ(file.variant, record.variant);
    EXPECT_EQ(file.outcome, verdict.outcome);
    EXPECT_EQ(file.claims_deterministic, verdict.is_deterministic);
    EXPECT_EQ(file.baseline.power.deviations, record.baseline.report.power.deviations);
    EXPECT_DOUBLE_EQ(file.baseline.power.upper_bound, record.baseline.report.power.upper_bound);
    EXPECT_EQ(file.baseline.noise.l2_mean, verdict.baseline_noise.l2_mean);
    EXPECT_EQ(file.prompt_ids, record.prompt_ids);
    EXPECT_TRUE(file.engagement_shown);
    EXPECT_THAT(file.disagreements, IsEmpty());
    EXPECT_THAT(file.notes, IsEmpty());
  }
  const VariantRecord failed = FailedRecord();
  const ResultFile file = ReadResultFile(WriteInvestigationFile(folder.path(), failed, DeriveVerdict(failed)));
  EXPECT_EQ(file.kind, ResultKind::kFailure);
  EXPECT_EQ(file.error, failed.error);
}

TEST(ReadResultFile, TooFewCallsOfTheKernelProveNoEngagement) {
  TemporaryFolder folder;
  VariantRecord record = BitExactRecord();
  record.profile.expected_count = 139;
  const auto path = WriteInvestigationFile(folder.path(), record, DeriveVerdict(record));
  const ResultFile file = ReadResultFile(path);
  EXPECT_FALSE(file.engagement_shown);
  EXPECT_THAT(file.notes, Contains(HasSubstr("ran 139 times in the profile, where at least 140 must show")));
  // A file from before the key: one call is enough.
  Json json = Json::parse(ReadAll(path));
  json["kernels"].erase("expected_at_least");
  std::ofstream(path) << json;
  EXPECT_TRUE(ReadResultFile(path).engagement_shown);
}

TEST(ReadResultFile, WhatItRanIn) {
  TemporaryFolder folder;
  VariantRecord record = BitExactRecord();
  using Texts = std::map<std::string, std::string>;
  const auto read = [&] {
    return ReadResultFile(WriteInvestigationFile(folder.path(), record, DeriveVerdict(record)));
  };
  const ResultFile file = read();
  EXPECT_EQ(file.environment, (Texts{{"cpu", "A CPU"}, {"torch", "2.11.0"}, {"$OMP_NUM_THREADS", "2"}}));
  EXPECT_EQ(file.settings, (Texts{{"deterministic_algorithms", "false"}}));
  EXPECT_EQ(file.model_path, "models/tiny_qwen3/awq");
  EXPECT_EQ(file.forced_ids, "");
  record.environment.argv = {"quant_suites", "--force-ids=a.json"};
  EXPECT_EQ(read().forced_ids, "a.json");
  record.environment.argv = {"quant_suites", "--force-ids", "b.json"};
  EXPECT_EQ(read().forced_ids, "b.json");
}

TEST(ReadResultFile, InconclusiveAndNanToo) {
  TemporaryFolder folder;
  VariantRecord record = BitExactRecord();
  record.controls.clear();
  for (auto& row : record.baseline.logprobs) row[1] = std::nanf("");
  const ResultFile file = ReadResultFile(WriteInvestigationFile(folder.path(), record, DeriveVerdict(record)));
  EXPECT_EQ(file.outcome, Outcome::kInconclusive);
  EXPECT_FALSE(file.claims_deterministic.has_value());
  EXPECT_THAT(file.disagreements, IsEmpty());
  EXPECT_THAT(file.notes, Contains(HasSubstr("no exact control")));
}

TEST(ReadResultFile, OlderClaimGetsItsBoundAndIsNotProven) {
  const ResultFile file = ReadResultFile(kData + "/older_awq_marlin_investigation_20250115_103000.json");
  EXPECT_EQ(file.kind, ResultKind::kOlder);
  EXPECT_EQ(file.outcome, Outcome::kInconclusive);
  EXPECT_EQ(file.claims_deterministic, true);
  EXPECT_NEAR(file.baseline.power.upper_bound, 1 - std::pow(0.05, 0.25), 1e-12);
  EXPECT_THAT(file.notes, Contains(HasSubstr("from 5 repetitions: a deviation of up to 52.7 %")));
  EXPECT_FALSE(file.engagement_shown);
  EXPECT_THAT(file.notes, Contains("engagement is not proven: profiling_succeeded is true, but no kernel is listed"));
  EXPECT_THAT(file.disagreements, IsEmpty());
}

TEST(ReadResultFile, OlderNoise) {
  const ResultFile file = ReadResultFile(kData + "/older_gptq_investigation_20250115_105200.json");
  EXPECT_EQ(file.outcome, Outcome::kNondeterministic);
  EXPECT_EQ(file.baseline.power.deviations, 4);
  EXPECT_TRUE(file.engagement_shown);
  EXPECT_TRUE(file.deterministic.succeeded);
  EXPECT_THAT(file.disagreements, IsEmpty());
  EXPECT_THAT(file.notes, Not(Contains(HasSubstr("engagement"))));
}

TEST(ReadResultFile, OlderExactByToleranceOnly) {
  const ResultFile file = ReadResultFile(kData + "/older_gptq_marlin_investigation_20250115_110300.json");
  EXPECT_EQ(file.outcome, Outcome::kNondeterministic);
  EXPECT_THAT(file.notes, Contains(HasSubstr("by a tolerance of 1e-10; bits differ, by at most 3.00e-11")));
  EXPECT_THAT(file.disagreements, IsEmpty());
}

TEST(ReadResultFile, OlderDeterministicModeThatFailed) {
  const ResultFile file = ReadResultFile(kData + "/older_awq_investigation_20250115_104100.json");
  EXPECT_FALSE(file.deterministic.succeeded);
  EXPECT_EQ(file.deterministic.error, "CUDA out of memory");
}

TEST(ReadResultFile, OlderFailure) {
  const ResultFile file = ReadResultFile(kData + "/older_openvino_investigation_20250115_111400.json");
  EXPECT_EQ(file.kind, ResultKind::kFailure);
  EXPECT_EQ(file.error, "Model format not supported by vLLM");
}

TEST(ReadResultFile, SaysWhereItsOwnNumbersDisagree) {
  const ResultFile file = ReadResultFile(kData + "/disagrees/older_awq_investigation_20250116_090000.json");
  EXPECT_THAT(file.disagreements, Contains(HasSubstr("baseline.stats.l2_mean is 0, recomputed")));
  EXPECT_THAT(file.disagreements, Contains("baseline.stats.logprobs_exact is true, recomputed false"));
  EXPECT_THAT(file.disagreements, Contains("config.repetitions is 6, the file holds 5 repetitions"));
  EXPECT_THAT(file.disagreements, Contains(HasSubstr("verdict.is_deterministic is true, but 4 repetitions differ")));
}

// Each key that is recomputed, made wrong one at a time.
TEST(ReadResultFile, EachOfOurNumbersIsRecomputed) {
  TemporaryFolder folder;
  const VariantRecord record = NondeterministicRecord();
  const std::string path = WriteInvestigationFile(folder.path(), record, DeriveVerdict(record));
  const Json whole = Json::parse(ReadAll(path));
  for (const char* at :
       {"/baseline/stats/l2_mean", "/baseline/stats/l2_std", "/baseline/stats/l2_max", "/baseline/stats/l2_min",
        "/baseline/stats/std_per_token_mean", "/baseline/stats/std_per_token_max", "/baseline/stats/std_per_token_min",
        "/power/upper_bound", "/deterministic/stats/l2_mean", "/deterministic/power/upper_bound"}) {
    Json edited = whole;
    edited[Json::json_pointer(at)] = 0.125;
    std::ofstream(path) << edited.dump();
    EXPECT_EQ(ReadResultFile(path).disagreements.size(), 1u) << at;
    edited[Json::json_pointer(at)] = nullptr;
    std::ofstream(path) << edited.dump();
    EXPECT_EQ(ReadResultFile(path).disagreements.size(), 1u) << at << " null";
  }
  const std::pair<const char*, Json> edits[] = {{"/baseline/stats/tokens_identical", false},
                                                {"/baseline/stats/logprobs_exact", true},
                                                {"/verdict/is_deterministic", nullptr},
                                                {"/power/deviations", 1},
                                                {"/config/repetitions", 7}};
  for (const auto& [at, value] : edits) {
    Json edited = whole;
    edited[Json::json_pointer(at)] = value;
    std::ofstream(path) << edited.dump();
    EXPECT_THAT(ReadResultFile(path).disagreements, Not(IsEmpty())) << at;
  }
  std::ofstream(path) << whole.dump();
  EXPECT_THAT(ReadResultFile(path).disagreements, IsEmpty());
}

std::string ErrorOf(const std::filesystem::path& path) {
  try {
    ReadResultFile(path);
  } catch (const ResultFileError& error) {
    return error.what();
  }
  return "";
}

TEST(ReadResultFile, HostileFilesAreOneLineThatNamesThem) {
  TemporaryFolder folder;
  const auto path = folder.path() / "bad.json";
  const std::string whole = ReadAll(kData + "/older_gptq_investigation_20250115_105200.json");
  const auto edited = [&](const char* at, const Json& value) {
    Json json = Json::parse(whole);
    json[Json::json_pointer(at)] = value;
    return json.dump();
  };
  const auto without = [&](const char* key) {
    Json json = Json::parse(whole);
    json.erase(key);
    return json.dump();
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", "empty"},
      {"{", "not JSON"},
      {"[1, 2]", "the file must be an object"},
      {"null", "the file must be an object"},
      {std::string(1000000, '['), "nested deeper than 64 levels"},
      {"{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "nested deeper than 64 levels"},
      {whole.substr(0, whole.size() / 2), "not JSON"},
      {"{\"variant\": NaN}", "NaN and Infinity are no JSON"},
      {"{\"variant\": \"\xFF\xFE\"}", "not JSON"},
      {"{\"variant\": 1e999}", "not JSON"},
      {without("variant"), "key variant is missing"},
      {without("success"), "key success is missing"},
      {without("baseline"), "key baseline is missing"},
      {without("verdict"), "key verdict is missing"},
      {edited("/variant", 7), "key variant must be text"},
      {edited("/success", "yes"), "key success must be true or false"},
      {edited("/baseline", Json::array()), "must be an object"},
      {edited("/baseline/tokens", 3), "key baseline.tokens must be an array"},
      {edited("/baseline/tokens/0", "x"), "key baseline.tokens must be an array of integers"},
      {edited("/baseline/tokens/0/0", 1e300), "key baseline.tokens must be an integer"},
      {edited("/baseline/tokens/0/0", 18446744073709551615u), "key baseline.tokens must be an integer"},
      {edited("/baseline/tokens/0/0", -1), "key baseline.tokens must be an integer"},
      {edited("/baseline/logprobs/0/0", "x"), "key baseline.logprobs must be an array of numbers"},
      {edited("/baseline/logprobs", Json::array()), "as many rows"},
      {edited("/config/repetitions", 1e18), "key config.repetitions must be an integer"},
      {edited("/kernels/profiling_succeeded", 1), "key kernels.profiling_succeeded must be true or false"},
      {edited("/verdict/is_deterministic", "no"), "key verdict.is_deterministic must be"},
      {edited("/schema_version", "2.0.0"), "does not know 2.0.0"},
      {edited("/schema_version", "1"), "of the form 1.0.0"},
      {edited("/schema_version", "1.0.0"), "key power is missing"},
  };
  for (const auto& [text, reason] : cases) {
    std::ofstream(path, std::ios::binary) << text;
    const std::string error = ErrorOf(path);
    EXPECT_THAT(error, HasSubstr(path.string() + ": ")) << text.substr(0, 80);
    EXPECT_THAT(error, HasSubstr(reason)) << text.substr(0, 80);
    EXPECT_EQ(error.find('\n'), std::string::npos);
    EXPECT_LT(error.size(), 500u);
  }
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("not a regular file"));
  EXPECT_THAT(ErrorOf(folder.path() / "none"), HasSubstr("No such file"));
  EXPECT_THAT(ErrorOf("/dev/zero"), HasSubstr("not a regular file"));
}

TEST(ReadResultFile, RaggedAndNullRowsAreReadWithANote) {
  TemporaryFolder folder;
  const auto path = folder.path() / "odd.json";
  Json json = Json::parse(ReadAll(kData + "/older_gptq_investigation_20250115_105200.json"));
  json["baseline"]["logprobs"][2].erase(0);
  std::ofstream(path) << json.dump();
  EXPECT_THAT(ReadResultFile(path).notes, Contains(HasSubstr("differ in number")));
  json["baseline"]["logprobs"][2].insert(json["baseline"]["logprobs"][2].begin(), nullptr);
  std::ofstream(path) << json.dump();
  EXPECT_THAT(ReadResultFile(path).notes, Contains(HasSubstr("NaN")));
}

}  // namespace
}  // namespace reporters
