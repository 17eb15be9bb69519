#include "reporters/analysis.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "reporters/text.h"
#include "reporters/verdict.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;
using gtest_determinism::Power;

constexpr double kSignificance = 0.05;
constexpr double kZ9875 = 2.241402727604947;  // 98.75 % quantile of the standard normal distribution

std::string Deviations(const Power& power) {
  return std::to_string(power.deviations) + " of " + std::to_string(power.comparisons);
}

// Probability of so few deviations in `fewer` if both had the same rate.
double FewerByChance(const Power& more, const Power& fewer) {
  return FisherExactP(more.deviations, more.comparisons, fewer.deviations, fewer.comparisons);
}

void Append(std::string* text, const std::string& part) {
  if (!text->empty()) *text += "; ";
  *text += part;
}

std::string Differences(const ResultFile& a, const ResultFile& b, bool with_device) {
  std::string text;
  const auto compare = [&](const char* name, const std::string& x, const std::string& y) {
    if (x != y)
      Append(&text, std::string(name) + " " + (x.empty() ? "unknown" : x) + " / " + (y.empty() ? "unknown" : y));
  };
  if (with_device) compare("device", a.device, b.device);
  compare("model", a.model, b.model);
  compare("model source", a.model_source, b.model_source);
  compare("compute", a.compute, b.compute);
  return text;
}

// What else can make two bit-exact runs give different bits, as far as the
// files tell. Of the command line only what is kept nowhere else.
std::string Surroundings(const ResultFile& a, const ResultFile& b) {
  std::string text;
  const auto compare = [&](const std::string& name, const std::string& x, const std::string& y) {
    if (x != y) Append(&text, name + " " + (x.empty() ? "unset" : x) + " / " + (y.empty() ? "unset" : y));
  };
  compare("model path", a.model_path, b.model_path);
  compare("provider", a.provider, b.provider);
  compare("kernel", a.kernel, b.kernel);
  compare("max_tokens", std::to_string(a.max_tokens), std::to_string(b.max_tokens));
  compare("--force-ids", a.forced_ids, b.forced_ids);
  for (const auto maps : {&ResultFile::settings, &ResultFile::environment}) {
    std::map<std::string, std::string> names = a.*maps;
    names.insert((b.*maps).begin(), (b.*maps).end());
    const auto value = [](const auto& map, const std::string& name) {
      const auto found = map.find(name);
      return found == map.end() ? std::string() : found->second;
    };
    for (const auto& [name, unused] : names) compare(name, value(a.*maps, name), value(b.*maps, name));
  }
  return text;
}

// "" where both ran on the same prompt, as far as the files tell.
std::string PromptDifference(const ResultFile& a, const ResultFile& b) {
  if (!a.prompt_ids.empty() && !b.prompt_ids.empty()) return a.prompt_ids == b.prompt_ids ? "" : "different prompts";
  return a.prompt_length == b.prompt_length ? "" : "prompts of different length";
}

// The distance within one file that can be set beside others: up to where
// tokens part.
struct OwnNoise {
  std::optional<double> mean, std;
  std::size_t distances = 0;
};

OwnNoise NoiseOf(const ResultFile& file) {
  const NoiseStatistics& noise = file.baseline.noise;
  OwnNoise own;
  own.mean = noise.parting_position ? noise.prefix_l2_mean : noise.l2_mean;
  own.std = noise.parting_position ? noise.prefix_l2_std : noise.l2_std;
  own.distances = file.baseline.tokens.size() > 1 ? file.baseline.tokens.size() - 1 : 0;
  return own;
}

// Both are non-deterministic: did the rate, or the distance, change? Either
// moving is a change, so the two tests share the 5 % (Bonferroni), and each its
// share between the two directions.
void CompareNoise(const ResultFile& older, const ResultFile& newer, FileComparison* comparison) {
  const Power& before = older.baseline.power;
  const Power& after = newer.baseline.power;
  int up = 0, down = 0;
  if (FewerByChance(after, before) <= kSignificance / 4) ++up;
  if (FewerByChance(before, after) <= kSignificance / 4) ++down;
  comparison->detail = "deviations " + Deviations(before) + " -> " + Deviations(after);
  const OwnNoise a = NoiseOf(older), b = NoiseOf(newer);
  if (a.mean && b.mean) {
    Append(&comparison->detail, "mean L2 " + FormatScientific(*a.mean) + " -> " + FormatScientific(*b.mean));
    // Two-sample z-test of the means.
    const double error = std::sqrt(*a.std * *a.std / static_cast<double>(a.distances) +
                                   *b.std * *b.std / static_cast<double>(b.distances));
    if (error > 0 && *b.mean - *a.mean > kZ9875 * error) ++up;
    if (error > 0 && *a.mean - *b.mean > kZ9875 * error) ++down;
  }
  comparison->change = up > 0 && down > 0 ? Change::kAmbiguous
                       : up > 0           ? Change::kNoisier
                       : down > 0         ? Change::kQuieter
                                          : Change::kSame;
}

std::string Folder(const ResultFile& file) { return file.path.parent_path().lexically_normal().string(); }

}  // namespace

std::string_view NameOf(Change change) {
  switch (change) {
    case Change::kSame:
      return "SAME";
    case Change::kFixed:
      return "FIXED";
    case Change::kBroken:
      return "BROKEN";
    case Change::kNoisier:
      return "NOISIER";
    case Change::kQuieter:
      return "QUIETER";
    case Change::kDifferent:
      return "DIFFERENT";
    case Change::kFailed:
      return "FAILED";
    case Change::kAmbiguous:
      return "AMBG";
    case Change::kMissing:
      return "MISSING";
    case Change::kNew:
      return "NEW";
  }
  return "AMBG";
}

FileComparison CompareFiles(const ResultFile& older, const ResultFile& newer, const AnalysisOptions& options) {
  FileComparison comparison;
  comparison.variant = newer.variant;
  comparison.older = older.path.string();
  comparison.newer = newer.path.string();
  const bool older_failed = older.kind == ResultKind::kFailure, newer_failed = newer.kind == ResultKind::kFailure;
  if (older_failed || newer_failed) {
    comparison.regressed = newer_failed;
    comparison.change = older_failed && newer_failed ? Change::kFailed
                        : newer_failed               ? Change::kBroken
                                                     : Change::kFixed;
    comparison.detail = older_failed && newer_failed ? "neither ran: " + newer.error
                        : newer_failed               ? "no longer runs: " + newer.error
                                                     : "runs now; before: " + older.error;
    return comparison;
  }
  if (!options.across_devices && !older.device.empty() && !newer.device.empty() && older.device != newer.device) {
    comparison.detail = "device " + older.device + " / " + newer.device + "; --across-devices compares them";
    return comparison;
  }
  const std::string differences = Differences(older, newer, options.across_devices);
  const Power& before = older.baseline.power;
  const Power& after = newer.baseline.power;
  const bool older_noisy = older.outcome == Outcome::kNondeterministic;
  const bool newer_noisy = newer.outcome == Outcome::kNondeterministic;
  if ((older.outcome != Outcome::kBitExact && !older_noisy) || (newer.outcome != Outcome::kBitExact && !newer_noisy)) {
    comparison.detail = "no proven outcome in the " +
                        std::string(newer.outcome == Outcome::kBitExact || newer_noisy ? "older" : "newer") + " file";
    if (older.outcome == Outcome::kBitExact) {
      comparison.regressed = true;
      comparison.detail = "bit-exact before, " + std::string(NameOf(newer.outcome)) + " now";
    }
  } else if (older_noisy && newer_noisy) {
    CompareNoise(older, newer, &comparison);
  } else if (!older_noisy && !newer_noisy) {
    comparison.change = Change::kSame;
    comparison.detail = "bit-exact in both";
    if (!older.baseline.digest.empty() && differences.empty() && PromptDifference(older, newer).empty()) {
      if (older.baseline.digest == newer.baseline.digest) {
        comparison.detail += ", and the same bits";
      } else {
        const std::string surroundings = Surroundings(older, newer);
        comparison.change = Change::kDifferent;
        comparison.regressed = surroundings.empty();
        comparison.detail += ", but not the same bits: each run is repeatable, the two differ from each other; " +
                             (surroundings.empty() ? "nothing else in the files differs" : surroundings);
      }
    }
  } else {
    const double chance = newer_noisy ? FewerByChance(after, before) : FewerByChance(before, after);
    comparison.detail = "deviations " + Deviations(before) + " -> " + Deviations(after) +
                        ", p = " + FormatScientific(chance) +
                        " if the rate is the same (Fisher's exact test, one-sided)";
    if (chance <= kSignificance) {
      comparison.change = newer_noisy ? Change::kBroken : Change::kFixed;
      comparison.regressed = newer_noisy;
    }
  }
  for (const std::string& difference : {differences, PromptDifference(older, newer)}) {
    if (!difference.empty()) Append(&comparison.detail, difference);
  }
  return comparison;
}

VariantComparison CompareVariants(const ResultFile& first, const ResultFile& second) {
  VariantComparison comparison;
  comparison.first = first.variant;
  comparison.second = second.variant;
  const auto& a = first.baseline;
  const auto& b = second.baseline;
  comparison.note = PromptDifference(first, second);
  if (!comparison.note.empty()) return comparison;
  if (a.tokens.empty() || b.tokens.empty()) {
    comparison.note = "no tokens";
    return comparison;
  }
  const auto& x = a.tokens[0];
  const auto& y = b.tokens[0];
  comparison.tokens = static_cast<int>(std::min(x.size(), y.size()));
  const auto parting = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
  comparison.common_tokens = static_cast<int>(parting.first - x.begin());
  double sum = 0;
  bool finite = comparison.common_tokens > 0;
  for (std::size_t j = 0; finite && j < static_cast<std::size_t>(comparison.common_tokens); ++j) {
    finite = j < a.logprobs[0].size() && j < b.logprobs[0].size() && std::isfinite(a.logprobs[0][j]) &&
             std::isfinite(b.logprobs[0][j]);
    if (finite) sum += (a.logprobs[0][j] - b.logprobs[0][j]) * (a.logprobs[0][j] - b.logprobs[0][j]);
  }
  if (finite) comparison.l2 = std::sqrt(sum);
  const OwnNoise noise_a = NoiseOf(first), noise_b = NoiseOf(second);
  if (noise_a.mean && noise_b.mean) comparison.noise = std::max(*noise_a.mean, *noise_b.mean);
  comparison.note = Differences(first, second, /*with_device=*/true);
  if (first.prompt_ids.empty() != second.prompt_ids.empty()) Append(&comparison.note, "prompt ids in one file only");
  return comparison;
}

Analysis Analyze(const std::vector<ResultFile>& files, const AnalysisOptions& options) {
  Analysis analysis;
  std::vector<std::string> folders;  // in the order given
  std::vector<std::string> variants;
  std::map<std::string, std::vector<const ResultFile*>> by_variant;
  for (const ResultFile& file : files) {
    if (std::find(folders.begin(), folders.end(), Folder(file)) == folders.end()) folders.push_back(Folder(file));
    auto& list = by_variant[file.variant];
    if (list.empty()) variants.push_back(file.variant);
    list.push_back(&file);
  }
  for (const std::string& variant : variants) {
    auto& list = by_variant[variant];
    std::stable_sort(list.begin(), list.end(),
                     [](const auto* a, const auto* b) { return a->timestamp < b->timestamp; });
    for (std::size_t i = 1; i < list.size(); ++i) {
      analysis.files.push_back(CompareFiles(*list[i - 1], *list[i], options));
    }
    if (folders.size() < 2) continue;
    const auto in = [&](const std::string& folder) {
      return std::find_if(list.begin(), list.end(), [&](const auto* file) { return Folder(*file) == folder; });
    };
    const auto first = in(folders.front()), last = in(folders.back());
    if (last == list.end() && first != list.end()) {
      analysis.files.push_back({variant, Change::kMissing, "not in " + folders.back(), (*first)->path.string(), "",
                                /*regressed=*/true});
    } else if (first == list.end() && last != list.end()) {
      analysis.files.push_back({variant, Change::kNew, "not in " + folders.front(), "", (*last)->path.string()});
    }
  }
  std::vector<const ResultFile*> newest;
  for (const std::string& variant : variants) {
    const auto& list = by_variant[variant];
    const auto ran =
        std::find_if(list.rbegin(), list.rend(), [](const auto* f) { return f->kind != ResultKind::kFailure; });
    if (ran != list.rend()) newest.push_back(*ran);
  }
  for (std::size_t i = 0; i < newest.size(); ++i) {
    for (std::size_t j = i + 1; j < newest.size(); ++j) {
      if (newest[i]->model != newest[j]->model && !options.across_models) {
        ++analysis.other_models;
        continue;
      }
      analysis.variants.push_back(CompareVariants(*newest[i], *newest[j]));
    }
  }
  return analysis;
}

}  // namespace reporters
