#include "reporters/result_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "gtest_determinism/statistics.h"
#include "reporters/json_text.h"
#include "reporters/text.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;
using Json = nlohmann::ordered_json;

constexpr std::uintmax_t kMaxBytes = 256u << 20;
constexpr int kMaxDepth = 64;
constexpr double kOlderTolerance = 1e-10;    // of the older script's logprobs_exact
constexpr double kRelativeTolerance = 1e-5;  // for sums made in another order or in float32

[[noreturn]] void Fail(const std::filesystem::path& path, const std::string& reason) {
  // What the file says may be long: a key, or all that the parser read last.
  constexpr std::size_t kLongest = 400;
  const bool cut = reason.size() > kLongest;
  throw ResultFileError(OneLine(path.string()) + ": " + OneLine(reason.substr(0, kLongest)) + (cut ? "..." : ""));
}

Json ParseFile(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error) Fail(path, "cannot be read: " + error.message());
  if (!std::filesystem::is_regular_file(status)) Fail(path, "not a regular file");
  if (std::filesystem::file_size(path, error) > kMaxBytes) Fail(path, "larger than 256 MiB; not a result file");
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) Fail(path, "cannot be read");
  if (text.empty()) Fail(path, "empty");
  const Json::parser_callback_t limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) Fail(path, "nested deeper than 64 levels");
    return true;
  };
  try {
    return Json::parse(text, limit_depth);
  } catch (const Json::exception& parse_error) {
    std::string reason = parse_error.what();
    // Drop the library's "[json.exception.parse_error.101] ".
    // and "; last read: '...'", which may repeat a whole file.
    reason.resize(std::min(reason.find("; last read"), reason.size()));
    if (const std::size_t end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    const bool python = text.find("NaN") != std::string::npos || text.find("Infinity") != std::string::npos;
    Fail(path, "not JSON: " + reason + (python ? "; NaN and Infinity are no JSON: write null" : ""));
  }
}

// Typed access that names the file and the key when it fails.
class Reader {
 public:
  Reader(const std::filesystem::path& path, const Json& json, std::string where = "")
      : path_(path), json_(json), where_(std::move(where)) {
    if (!json_.is_object()) Wrong("", "an object");
  }

  const Json* Find(const std::string& key) const {
    const auto it = json_.find(key);
    return it == json_.end() ? nullptr : &*it;
  }
  const Json& Need(const std::string& key) const {
    const Json* value = Find(key);
    if (value == nullptr) Fail(path_, "key " + where_ + key + " is missing; not a result file?");
    return *value;
  }
  bool IsNull(const std::string& key) const { return Find(key) == nullptr || Find(key)->is_null(); }
  Reader Object(const std::string& key) const { return Reader(path_, Need(key), where_ + key + "."); }
  bool Boolean(const std::string& key) const {
    if (!Need(key).is_boolean()) Wrong(key, "true or false");
    return Need(key).get<bool>();
  }
  std::optional<bool> OptionalBoolean(const std::string& key) const {
    if (IsNull(key)) return std::nullopt;
    return Boolean(key);
  }
  std::string String(const std::string& key) const {
    if (!Need(key).is_string()) Wrong(key, "text");
    return Need(key).get<std::string>();
  }
  std::string OptionalString(const std::string& key) const { return IsNull(key) ? "" : String(key); }
  std::optional<double> OptionalNumber(const std::string& key) const {
    if (IsNull(key)) return std::nullopt;
    if (!Need(key).is_number()) Wrong(key, "a number or null");
    return Need(key).get<double>();
  }
  std::int64_t Integer(const std::string& key, std::int64_t low, std::int64_t high) const {
    return ToInteger(Need(key), key, low, high);
  }
  std::int64_t OptionalInteger(const std::string& key, std::int64_t low, std::int64_t high) const {
    return IsNull(key) ? 0 : Integer(key, low, high);
  }
  const Json& Array(const std::string& key) const {
    if (!Need(key).is_array()) Wrong(key, "an array");
    return Need(key);
  }

  std::vector<std::int64_t> Integers(const Json& array, const std::string& key) const {
    if (!array.is_array()) Wrong(key, "an array of integers");
    std::vector<std::int64_t> values;
    for (const Json& value : array)
      values.push_back(ToInteger(value, key, 0, std::numeric_limits<std::int32_t>::max()));
    return values;
  }
  // null stands for NaN and infinity.
  std::vector<double> Numbers(const Json& array, const std::string& key) const {
    if (!array.is_array()) Wrong(key, "an array of numbers");
    std::vector<double> values;
    for (const Json& value : array) {
      if (!value.is_number() && !value.is_null()) Wrong(key, "an array of numbers");
      values.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
    }
    return values;
  }

  [[noreturn]] void Wrong(const std::string& key, const std::string& wanted) const {
    const std::string name = where_ + key;
    Fail(path_, (name.empty() ? "the file" : "key " + name) + " must be " + wanted);
  }

 private:
  std::int64_t ToInteger(const Json& value, const std::string& key, std::int64_t low, std::int64_t high) const {
    const std::string wanted = "an integer from " + std::to_string(low) + " to " + std::to_string(high);
    if (!value.is_number_integer()) Wrong(key, wanted);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high)) Wrong(key, wanted);
    const auto integer = value.get<std::int64_t>();
    if (integer < low || integer > high) Wrong(key, wanted);
    return integer;
  }

  const std::filesystem::path& path_;
  const Json& json_;
  std::string where_;
};

constexpr std::int64_t kMaxCount = std::numeric_limits<std::int32_t>::max();

std::string Rows(std::size_t n) { return std::to_string(n) + (n == 1 ? " repetition" : " repetitions"); }

// Counted over what the file holds: tokens and logprobs of every repetition.
void CountPatterns(ModeResult* mode) {
  using Bits = std::pair<std::vector<std::int64_t>, std::vector<std::uint64_t>>;
  std::set<Bits> distinct;
  Bits first;
  int deviations = 0;
  for (std::size_t i = 0; i < mode->tokens.size(); ++i) {
    Bits bits = {mode->tokens[i], {}};
    for (double value : mode->logprobs[i]) bits.second.push_back(std::bit_cast<std::uint64_t>(value));
    if (i == 0) first = bits;
    if (bits != first) ++deviations;
    distinct.insert(std::move(bits));
  }
  mode->distinct = static_cast<int>(distinct.size());
  mode->power = gtest_determinism::ComputePower(std::max(1, static_cast<int>(mode->tokens.size())) - 1, deviations);
}

double LargestDifference(const ModeResult& mode) {
  double largest = 0;
  for (const auto& row : mode.logprobs) {
    for (std::size_t j = 0; j < std::min(row.size(), mode.logprobs[0].size()); ++j) {
      const double difference = std::abs(row[j] - mode.logprobs[0][j]);
      if (difference > largest) largest = difference;
    }
  }
  return largest;
}

void CompareClaims(const Reader& stats, const std::string& where, const ModeResult& mode, bool older,
                   ResultFile* result) {
  const NoiseStatistics& noise = mode.noise;
  const auto disagree = [&](const std::string& key, const std::string& written, const std::string& found) {
    result->disagreements.push_back(where + ".stats." + key + " is " + written + ", recomputed " + found);
  };
  const auto boolean = [&](const char* key, bool found) {
    const auto written = stats.OptionalBoolean(key);
    if (written && *written != found) disagree(key, *written ? "true" : "false", found ? "true" : "false");
  };
  boolean("tokens_identical", noise.tokens_identical);
  const double largest = LargestDifference(mode);
  if (older && stats.OptionalBoolean("logprobs_exact") == true && !noise.logprobs_exact && largest <= kOlderTolerance) {
    result->notes.push_back(where + ": logprobs_exact by a tolerance of 1e-10; bits differ, by at most " +
                            FormatScientific(largest));
  } else if (!(older && !noise.logprobs_exact && std::isnan(largest))) {
    boolean("logprobs_exact", noise.logprobs_exact);
  }
  const std::pair<const char*, std::optional<double>> numbers[] = {{"l2_mean", noise.l2_mean},
                                                                   {"l2_std", noise.l2_std},
                                                                   {"l2_max", noise.l2_max},
                                                                   {"l2_min", noise.l2_min},
                                                                   {"std_per_token_mean", noise.std_per_token_mean},
                                                                   {"std_per_token_max", noise.std_per_token_max},
                                                                   {"std_per_token_min", noise.std_per_token_min}};
  for (const auto& [key, found] : numbers) {
    const auto written = stats.OptionalNumber(key);
    if (!written && !found) continue;
    if (written && found) {
      const double scale = std::max(std::abs(*written), std::abs(*found));
      if (std::abs(*written - *found) <= kRelativeTolerance * scale + 1e-12) continue;
    } else if (stats.Find(key) == nullptr) {
      continue;
    }
    disagree(key, written ? FormatScientific(*written) : "null", found ? FormatScientific(*found) : "null");
  }
}

void ReadRows(const Reader& json, const std::string& where, ModeResult* mode) {
  for (const Json& row : json.Array("tokens")) mode->tokens.push_back(json.Integers(row, "tokens"));
  for (const Json& row : json.Array("logprobs")) mode->logprobs.push_back(json.Numbers(row, "logprobs"));
  if (mode->tokens.size() != mode->logprobs.size()) {
    json.Wrong("logprobs", "of as many rows as " + where + ".tokens (" + std::to_string(mode->tokens.size()) + ")");
  }
  mode->noise = ComputeNoise(mode->tokens, mode->logprobs);
  CountPatterns(mode);
  if (!json.IsNull("seconds")) {
    std::vector<double> seconds = json.Numbers(json.Need("seconds"), "seconds");
    std::erase_if(seconds, [](double value) { return !std::isfinite(value); });
    std::sort(seconds.begin(), seconds.end());
    if (!seconds.empty()) mode->median_seconds = (seconds[(seconds.size() - 1) / 2] + seconds[seconds.size() / 2]) / 2;
  }
}

// Replaces what was counted over tokens and logprobs by what was counted over
// all compared bits.
void ReadPower(const Reader& json, const std::string& where, ModeResult* mode, ResultFile* result) {
  const Reader power = json.Object("power");
  const auto comparisons = static_cast<int>(power.Integer("comparisons", 0, kMaxCount));
  const auto deviations = static_cast<int>(power.Integer("deviations", 0, comparisons));
  if (deviations < mode->power.deviations) {
    result->disagreements.push_back(where + "power.deviations is " + std::to_string(deviations) + ", but " +
                                    std::to_string(mode->power.deviations) + " rows differ from the first");
  }
  mode->power = gtest_determinism::ComputePower(comparisons, deviations);
  const auto bound = power.OptionalNumber("upper_bound");
  if (!bound || !(std::abs(*bound - mode->power.upper_bound) < 1e-6)) {
    result->disagreements.push_back(where + "power.upper_bound is " + (bound ? FormatPercent(*bound) : "null") +
                                    ", recomputed " + FormatPercent(mode->power.upper_bound));
  }
  const Reader patterns = json.Object("patterns");
  mode->distinct = static_cast<int>(patterns.Integer("distinct", 0, kMaxCount));
  const Json& list = patterns.Array("list");
  if (!list.empty()) mode->digest = Reader(result->path, list[0], where + "patterns.list.").String("digest");
}

void ReadModes(const Reader& file, ResultFile* result) {
  const bool older = result->kind == ResultKind::kOlder;
  const Reader baseline = file.Object("baseline");
  ReadRows(baseline, "baseline", &result->baseline);
  result->baseline.succeeded = true;
  if (!baseline.IsNull("stats")) {
    CompareClaims(baseline.Object("stats"), "baseline", result->baseline, older, result);
  }
  if (!older) ReadPower(file, "", &result->baseline, result);

  if (file.IsNull("deterministic")) return;
  const Reader deterministic = file.Object("deterministic");
  ModeResult& mode = result->deterministic;
  mode.succeeded = deterministic.Boolean("succeeded");
  mode.error = deterministic.OptionalString("error");
  if (!mode.succeeded) return;
  ReadRows(deterministic, "deterministic", &mode);
  if (!deterministic.IsNull("stats")) {
    CompareClaims(deterministic.Object("stats"), "deterministic", mode, older, result);
  }
  if (!older) ReadPower(deterministic, "deterministic.", &mode, result);
}

void ReadKernels(const Reader& file, ResultFile* result) {
  if (file.IsNull("kernels")) {
    result->notes.push_back("engagement is not proven: the file has no kernel profile");
    return;
  }
  const Reader kernels = file.Object("kernels");
  const bool succeeded = kernels.Boolean("profiling_succeeded");
  result->kernels = kernels.IsNull("all_kernels") ? 0 : kernels.Array("all_kernels").size();
  if (result->kind == ResultKind::kOlder) {
    result->engagement_shown = succeeded && result->kernels > 0;
    if (succeeded && result->kernels == 0) {
      result->notes.push_back("engagement is not proven: profiling_succeeded is true, but no kernel is listed");
    } else if (!succeeded) {
      result->notes.push_back("engagement is not proven: profiling failed");
    }
    return;
  }
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  const std::int64_t count = kernels.Integer("expected_count", 0, kMost);
  // Files from before this key need one call.
  const std::int64_t at_least = std::max<std::int64_t>(1, kernels.OptionalInteger("expected_at_least", 1, kMost));
  result->engagement_shown = count >= at_least;
  if (!result->engagement_shown) {
    result->notes.push_back("engagement is not proven: kernel " + kernels.OptionalString("expected_kernel") + " ran " +
                            std::to_string(count) + " times in the profile, where at least " +
                            std::to_string(at_least) + " must show");
  }
  if (succeeded && result->kernels == 0) {
    result->disagreements.push_back("kernels.profiling_succeeded is true, but no kernel is listed");
  }
}

void ReadVerdict(const Reader& file, ResultFile* result) {
  const Reader verdict = file.Object("verdict");
  result->claims_deterministic = verdict.OptionalBoolean("is_deterministic");
  const bool differs = result->baseline.power.deviations > 0;
  if (result->claims_deterministic == true && differs) {
    if (result->baseline.noise.tokens_identical && LargestDifference(result->baseline) <= kOlderTolerance &&
        result->kind == ResultKind::kOlder) {
      result->notes.push_back("claims determinism, but bits differ");
    } else {
      result->disagreements.push_back("verdict.is_deterministic is true, but " +
                                      std::to_string(result->baseline.power.deviations) +
                                      " repetitions differ from the first");
    }
  }
  if (result->claims_deterministic == false && !differs && result->kind == ResultKind::kOlder) {
    result->disagreements.push_back("verdict.is_deterministic is false, but no repetition differs from the first");
  }
  if (result->kind == ResultKind::kOlder) {
    result->outcome = differs ? Outcome::kNondeterministic : Outcome::kInconclusive;
    if (!differs && result->claims_deterministic == true) {
      result->notes.push_back("claims determinism from " + Rows(result->baseline.tokens.size()) +
                              ": a deviation of up to " + FormatPercent(result->baseline.power.upper_bound) +
                              " per repetition is not excluded (95 %), and no control shows that one would be seen");
    }
    return;
  }
  const std::string outcome = file.String("outcome");
  bool known = false;
  for (Outcome candidate :
       {Outcome::kBitExact, Outcome::kNondeterministic, Outcome::kInconclusive, Outcome::kSkipped, Outcome::kError}) {
    if (NameOf(candidate) != outcome) continue;
    result->outcome = candidate;
    known = true;
  }
  if (!known) file.Wrong("outcome", "bit_exact, nondeterministic, inconclusive, skipped or error");
  std::optional<bool> meant;
  if (result->outcome == Outcome::kBitExact) meant = true;
  if (result->outcome == Outcome::kNondeterministic) meant = false;
  if (meant != result->claims_deterministic) {
    result->disagreements.push_back("verdict.is_deterministic contradicts outcome " + outcome);
  }
  if (!meant && !verdict.IsNull("reason")) result->notes.push_back(verdict.String("reason"));
}

std::map<std::string, std::string> Texts(const Reader& object, const Json& json, const std::string& prefix = "") {
  std::map<std::string, std::string> texts;
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) texts[prefix + name] = object.String(name);
  }
  return texts;
}

void ReadSurroundings(const Reader& file, ResultFile* result) {
  const Reader baseline = file.Object("baseline");
  if (!baseline.IsNull("settings")) {
    result->settings = Texts(baseline.Object("settings"), baseline.Need("settings"));
  }
  if (file.IsNull("environment")) return;
  const Reader environment = file.Object("environment");
  result->environment = Texts(environment, file.Need("environment"));
  if (!environment.IsNull("variables")) {
    result->environment.merge(Texts(environment.Object("variables"), environment.Need("variables"), "$"));
  }
  if (environment.IsNull("argv")) return;
  const std::string option = "--force-ids";
  const Json& argv = environment.Array("argv");
  for (std::size_t i = 0; i < argv.size(); ++i) {
    if (!argv[i].is_string()) environment.Wrong("argv", "an array of strings");
    const auto argument = argv[i].get<std::string>();
    if (argument == option && i + 1 < argv.size() && argv[i + 1].is_string()) {
      result->forced_ids = argv[i + 1].get<std::string>();
    } else if (argument.rfind(option + "=", 0) == 0) {
      result->forced_ids = argument.substr(option.size() + 1);
    }
  }
}

void CheckSchemaVersion(const Reader& file) {
  const std::string version = file.String("schema_version");
  int major = 0, minor = 0, patch = 0, length = 0;
  if (std::sscanf(version.c_str(), "%4d.%4d.%4d%n", &major, &minor, &patch, &length) != 3 ||
      length != static_cast<int>(version.size())) {
    file.Wrong("schema_version", "of the form 1.0.0");
  }
  if (major != 1) file.Wrong("schema_version", "1.x; this program does not know " + version);
}

}  // namespace

ResultFile ReadResultFile(const std::filesystem::path& path) {
  ResultFile result;
  result.path = path;
  const Json json = ParseFile(path);
  const Reader file(path, json);
  result.variant = file.String("variant");
  const bool success = file.Boolean("success");
  const bool ours = file.Find("schema_version") != nullptr;
  if (ours) CheckSchemaVersion(file);
  result.kind = !success ? ResultKind::kFailure : ours ? ResultKind::kInvestigation : ResultKind::kOlder;
  result.timestamp = file.OptionalString("timestamp");
  result.model = file.OptionalString("model");
  result.model_source = file.OptionalString("model_source");
  result.model_path = file.OptionalString("model_path");
  result.device = file.OptionalString("device");
  result.provider = file.OptionalString("provider");
  result.kernel = file.OptionalString("kernel");
  result.compute = file.OptionalString("compute");
  if (!success) {
    result.error = file.String("error");
    result.outcome = Outcome::kError;
    return result;
  }
  const Reader config = file.Object("config");
  const auto repetitions = static_cast<std::size_t>(config.OptionalInteger("repetitions", 0, kMaxCount));
  result.max_tokens = static_cast<int>(config.OptionalInteger("max_tokens", 0, kMaxCount));
  result.prompt_length = file.OptionalInteger("prompt_length", 0, kMaxCount);
  if (!file.IsNull("prompt_ids")) result.prompt_ids = file.Integers(file.Need("prompt_ids"), "prompt_ids");
  if (!file.IsNull("cost")) result.total_seconds = file.Object("cost").OptionalNumber("total_seconds").value_or(0);

  ReadModes(file, &result);
  ReadSurroundings(file, &result);
  if (repetitions != 0 && repetitions != result.baseline.tokens.size()) {
    result.disagreements.push_back("config.repetitions is " + std::to_string(repetitions) + ", the file holds " +
                                   Rows(result.baseline.tokens.size()));
  }
  if (!result.baseline.noise.reason.empty()) result.notes.push_back("statistics: " + result.baseline.noise.reason);
  ReadKernels(file, &result);
  ReadVerdict(file, &result);
  return result;
}

}  // namespace reporters
