// Reads result files back: this project's, the user's older Python script's,
// and failure files.
#ifndef REPORTERS_RESULT_FILE_H_
#define REPORTERS_RESULT_FILE_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest_determinism/report.h"
#include "reporters/record.h"

namespace reporters {

// One line that begins with the file's name.
class ResultFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ModeResult {
  bool succeeded = false;
  std::string error;
  std::vector<std::vector<std::int64_t>> tokens;  // [repetition][position]
  std::vector<std::vector<double>> logprobs;      // NaN where the file has null
  NoiseStatistics noise;                          // recomputed from the two
  gtest_determinism::Power power;                 // as counted in the file; for older files, over tokens and logprobs
  int distinct = 0;                               // patterns
  std::string digest;                             // of run 0, "" for older files
  std::optional<double> median_seconds;           // of a repetition
};

enum class ResultKind : std::uint8_t {
  kInvestigation,  // with schema_version
  kOlder,          // the same keys without ours: tolerance 1e-10, no control
  kFailure,        // success: false
};

struct ResultFile {
  std::filesystem::path path;
  ResultKind kind = ResultKind::kInvestigation;
  std::string variant, timestamp, model, model_source, device, provider, kernel, compute, error;
  int max_tokens = 0;
  std::int64_t prompt_length = 0;
  std::vector<std::int64_t> prompt_ids;  // empty: not in the file
  std::string model_path;
  std::string forced_ids;                          // the file of --force-ids in environment.argv
  std::map<std::string, std::string> settings;     // of the runtime, in the baseline
  std::map<std::string, std::string> environment;  // its texts, and its variables as "$NAME"
  ModeResult baseline, deterministic;
  gtest_determinism::Outcome outcome = gtest_determinism::Outcome::kInconclusive;
  std::optional<bool> claims_deterministic;  // verdict.is_deterministic as written
  bool engagement_shown = false;             // the expected kernel, or for older files any kernel, is in the profile
  std::size_t kernels = 0;
  double total_seconds = 0;
  std::vector<std::string> notes;          // what the reader must know
  std::vector<std::string> disagreements;  // the file's own numbers against those recomputed
};

// Throws ResultFileError: not a regular file, too large (256 MiB), not JSON,
// nested deeper than 64 levels, a key that is missing or of the wrong type, a
// number out of range, a schema of a newer major version.
ResultFile ReadResultFile(const std::filesystem::path& path);

}  // namespace reporters

#endif  // REPORTERS_RESULT_FILE_H_
