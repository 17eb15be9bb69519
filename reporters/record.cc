#include "reporters/record.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>

namespace reporters {
namespace {

using gtest_determinism::Report;

bool NameContains(const KernelEntry& kernel, std::initializer_list<std::string_view> parts) {
  std::string name = kernel.name;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

// L2 distances from repetition 0 and standard deviations by position, over the
// first `length` positions of every row.
struct Distances {
  std::vector<double> l2;
  std::vector<double> std_per_token;
};

template <typename Float>
Distances DistancesOver(const std::vector<std::vector<Float>>& rows, std::size_t length) {
  Distances distances;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < length; ++j) {
      const double d = static_cast<double>(rows[0][j]) - static_cast<double>(rows[i][j]);
      sum += d * d;
    }
    distances.l2.push_back(std::sqrt(sum));
  }
  std::vector<double> column(rows.size());
  for (std::size_t j = 0; j < length; ++j) {
    for (std::size_t i = 0; i < rows.size(); ++i) column[i] = rows[i][j];
    distances.std_per_token.push_back(SpreadOf(column)->std);
  }
  return distances;
}

template <typename Float>
bool SameBits(const std::vector<Float>& a, const std::vector<Float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Float)) == 0);
}

// Every compared bit was equal: says the report, whatever it concluded.
bool NothingDiffered(const Report& report) {
  return report.runs >= 2 && report.power.deviations == 0 && report.patterns.size() <= 1 && !report.first_divergence;
}

template <typename Float>
void Fill(const std::vector<std::vector<std::int64_t>>& tokens, const std::vector<std::vector<Float>>& rows,
          NoiseStatistics* noise) {
  if (tokens.size() < 2 || rows.size() < 2) {
    noise->reason = "fewer than two repetitions";
    return;
  }
  noise->tokens_identical =
      std::all_of(tokens.begin(), tokens.end(), [&](const auto& row) { return row == tokens[0]; });
  noise->logprobs_exact =
      std::all_of(rows.begin(), rows.end(), [&](const auto& row) { return SameBits(row, rows[0]); });

  const std::size_t length = rows[0].size();
  const auto same_length = [&](const auto& row) { return row.size() == length; };
  if (rows.size() != tokens.size() || !std::all_of(rows.begin(), rows.end(), same_length) ||
      !std::all_of(tokens.begin(), tokens.end(), same_length)) {
    noise->reason = "tokens and logprobs of the repetitions differ in number";
    return;
  }
  if (length == 0) {
    noise->reason = "no tokens";
    return;
  }
  std::size_t common = length;
  for (const auto& row : tokens) {
    const auto parting = std::mismatch(row.begin(), row.end(), tokens[0].begin());
    common = std::min(common, static_cast<std::size_t>(parting.first - row.begin()));
  }
  if (common < length) noise->parting_position = static_cast<int>(common);

  // A position with NaN or infinity spoils only what is computed over it.
  std::size_t finite = length;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < finite; ++j) {
      if (std::isfinite(rows[i][j])) continue;
      finite = j;
      noise->reason = "logprob of repetition " + std::to_string(i) + ", position " + std::to_string(j) + " is " +
                      (std::isnan(rows[i][j]) ? "NaN" : "infinite");
    }
  }
  if (finite == length) {
    const Distances all = DistancesOver(rows, length);
    const Spread l2 = *SpreadOf(all.l2), std_per_token = *SpreadOf(all.std_per_token);
    noise->l2_mean = l2.mean;
    noise->l2_std = l2.std;
    noise->l2_max = l2.max;
    noise->l2_min = l2.min;
    noise->std_per_token_mean = std_per_token.mean;
    noise->std_per_token_max = std_per_token.max;
    noise->std_per_token_min = std_per_token.min;
  }
  if (noise->parting_position && common > 0 && common <= finite) {
    const Distances prefix = DistancesOver(rows, common);
    const Spread l2 = *SpreadOf(prefix.l2), std_per_token = *SpreadOf(prefix.std_per_token);
    noise->prefix_l2_mean = l2.mean;
    noise->prefix_l2_std = l2.std;
    noise->prefix_l2_max = l2.max;
    noise->prefix_l2_min = l2.min;
    noise->prefix_std_per_token_mean = std_per_token.mean;
    noise->prefix_std_per_token_max = std_per_token.max;
    noise->prefix_std_per_token_min = std_per_token.min;
  }
}

}  // namespace

std::string_view NameOf(Finding finding) {
  switch (finding) {
    case Finding::kShown:
      return "shown";
    case Finding::kRefuted:
      return "refuted";
    case Finding::kNotLookedAt:
      return "not_looked_at";
  }
  return "not_looked_at";
}

std::string_view NameOf(ProfileStatus status) {
  switch (status) {
    case ProfileStatus::kOk:
      return "ok";
    case ProfileStatus::kNotRequested:
      return "not_requested";
    case ProfileStatus::kUnavailable:
      return "unavailable";
    case ProfileStatus::kEmpty:
      return "empty";
    case ProfileStatus::kIncomplete:
      return "incomplete";
  }
  return "unavailable";
}

bool IsMarlinKernel(const KernelEntry& kernel) {
  if (kernel.kind != KernelKind::kOther) return kernel.kind == KernelKind::kMarlin;
  return NameContains(kernel, {"marlin"});
}

bool IsGemmKernel(const KernelEntry& kernel) {
  if (kernel.kind != KernelKind::kOther) return kernel.kind == KernelKind::kGemm || kernel.kind == KernelKind::kMarlin;
  return NameContains(kernel, {"gemm", "gemv", "matmul", "_mm", "::mm", "addmm", "bmm", "linear", "marlin", "cutlass"});
}

bool IsDequantKernel(const KernelEntry& kernel) {
  if (kernel.kind != KernelKind::kOther) return kernel.kind == KernelKind::kDequant;
  return NameContains(kernel, {"quant"});
}

std::optional<Spread> SpreadOf(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  Spread spread;
  spread.min = *std::min_element(values.begin(), values.end());
  spread.max = *std::max_element(values.begin(), values.end());
  // Equal values have no spread; a rounded mean must not give them one.
  if (spread.min == spread.max) {
    spread.mean = spread.min;
    return spread;
  }
  double sum = 0;
  for (double value : values) sum += value;
  spread.mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.std = std::sqrt(squares / static_cast<double>(values.size()));
  return spread;
}

NoiseStatistics ComputeNoise(const ModeRecord& mode) {
  NoiseStatistics noise;
  noise.logits_exact = NothingDiffered(mode.report);
  if (std::all_of(mode.logits_l2.begin(), mode.logits_l2.end(), [](double v) { return std::isfinite(v); })) {
    if (const auto spread = SpreadOf(mode.logits_l2)) {
      noise.logits_l2_mean = spread->mean;
      noise.logits_l2_std = spread->std;
      noise.logits_l2_max = spread->max;
      noise.logits_l2_min = spread->min;
    }
  }
  Fill(mode.tokens, mode.logprobs, &noise);
  return noise;
}

NoiseStatistics ComputeNoise(const std::vector<std::vector<std::int64_t>>& tokens,
                             const std::vector<std::vector<double>>& logprobs) {
  NoiseStatistics noise;
  Fill(tokens, logprobs, &noise);
  return noise;
}

}  // namespace reporters
