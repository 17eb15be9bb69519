// Compares result files: variants with each other, and files of one variant
// with each other. Computes; writes nothing.
#ifndef REPORTERS_ANALYSIS_H_
#define REPORTERS_ANALYSIS_H_

#include <optional>
#include <string>
#include <vector>

#include "reporters/result_file.h"

namespace reporters {

enum class Change : std::uint8_t {
  kSame,
  kFixed,    // was non-deterministic or did not run
  kBroken,   // the reverse
  kNoisier,  // both non-deterministic: the rate or the distance rose
  kQuieter,
  kDifferent,  // both bit-exact, on the same model and prompt, but not the same bits
  kFailed,     // neither ran
  kAmbiguous,  // the files do not allow a decision
  kMissing,    // in the first folder only
  kNew,        // in the last folder only
};
// "SAME", "FIXED", "BROKEN", "NOISIER", "QUIETER", "DIFFERENT", "FAILED", "AMBG", "MISSING", "NEW"
std::string_view NameOf(Change change);

// Two files of one variant, the older first.
struct FileComparison {
  std::string variant;
  Change change = Change::kAmbiguous;
  std::string detail;
  std::string older, newer;  // paths; "" where there is none
  // Something was lost: BROKEN, MISSING, FAILED, a bit-exact variant that became
  // inconclusive, or DIFFERENT where nothing else in the two files differs.
  bool regressed = false;
};

// Repetition 0 of two variants on the same prompt.
struct VariantComparison {
  std::string first, second;
  int common_tokens = 0;        // before they part
  int tokens = 0;               // compared
  std::optional<double> l2;     // of the chosen tokens' logprobs over the common tokens
  std::optional<double> noise;  // the larger mean L2 of the two within themselves
  std::string note;             // what else differs between the two, or why there is no distance
};

struct AnalysisOptions {
  // Files of one variant from different devices are compared only if asked.
  bool across_devices = false;
  // Variants of different models are compared only if asked: their distance is
  // mostly that of the models.
  bool across_models = false;
};

struct Analysis {
  std::vector<FileComparison> files;
  std::vector<VariantComparison> variants;
  int other_models = 0;  // pairs of variants left out for their different models
};

// Each variant's files in order of time; where the files lie in several
// folders, also what is in the first of them or the last of them only. Between
// variants the newest file of each that ran is compared.
Analysis Analyze(const std::vector<ResultFile>& files, const AnalysisOptions& options);

FileComparison CompareFiles(const ResultFile& older, const ResultFile& newer, const AnalysisOptions& options);
VariantComparison CompareVariants(const ResultFile& first, const ResultFile& second);

}  // namespace reporters

#endif  // REPORTERS_ANALYSIS_H_
