// The record of one variant's run: what collectors fill, what verdict rules
// read, what writers write. Plain values.
#ifndef REPORTERS_RECORD_H_
#define REPORTERS_RECORD_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest_determinism/report.h"

namespace reporters {

// ---- controls ----

// Names of the controls that a verdict needs; docs/verdicts.md says why.
inline constexpr char kArrivalOrderControl[] = "arrival_order_matmul";  // must differ
inline constexpr char kOrderedTwinControl[] = "ordered_twin";           // must not
inline constexpr char kFlippedLogitControl[] = "flipped_logit_bit";     // must be found
// A control whose name begins so changes one bit and must be found; the engine
// has one of its own, "flipped_bit".
inline constexpr char kFlippedPrefix[] = "flipped_";

// ---- kernel profile ----

enum class KernelKind : std::uint8_t {
  kOther,  // not known: its name decides in which lists it is
  kMarlin,
  kGemm,
  kDequant,
  kNone,  // known to be none of these, whatever its name says
};

struct KernelEntry {
  std::string name;    // a CUDA kernel, or on a CPU an operator
  std::string device;  // "cpu", "cuda:0"
  std::int64_t count = 0;
  double time_us = 0;                    // sum; self time, so that a table's times add up
  KernelKind kind = KernelKind::kOther;  // where it is known; else by the name
  // Of a kernel on a GPU only. An entry stands for launches that agree in all of these.
  std::string op = "";  // the operators that launched it, outermost first, "qwen3::linear > aten::mm"; "" unknown
  int registers = 0;    // of a thread
  std::int64_t static_shared_bytes = 0, dynamic_shared_bytes = 0;  // of a block
  std::array<std::int64_t, 3> grid = {}, block = {};               // x, y, z
};

enum class ProfileStatus : std::uint8_t { kOk, kNotRequested, kUnavailable, kEmpty, kIncomplete };

struct KernelProfile {
  ProfileStatus status = ProfileStatus::kNotRequested;
  std::string reason;  // why it is not kOk
  std::vector<KernelEntry> kernels;
  std::string expected_kernel;      // the operator that must appear for the verdict to count
  std::int64_t expected_count = 0;  // how often it did
  // How often it must, at least: one call of many is no proof that it did the work.
  std::int64_t expected_at_least = 1;
  // On a GPU: executions of kernels of which no operator is known. They are in
  // `kernels` too, and none is lost.
  std::int64_t unattributed = 0;
};

// The three lists of the JSON. A kernel of kind kOther is sorted by its name.
// A Marlin matmul is a matrix multiplication too and is in both lists.
bool IsMarlinKernel(const KernelEntry& kernel);
bool IsGemmKernel(const KernelEntry& kernel);
bool IsDequantKernel(const KernelEntry& kernel);

// ---- one mode: baseline, or deterministic ----

struct ModeRecord {
  bool attempted = false;
  bool succeeded = false;
  std::string error;
  std::vector<std::vector<std::int64_t>> tokens;  // [repetition][position]
  std::vector<std::vector<float>> logprobs;       // [repetition][position], of the chosen token
  // Of repetition 0: [position][10] of (id, logprob).
  std::vector<std::vector<std::pair<std::int64_t, float>>> top10;
  gtest_determinism::Report report;  // of all compared bits
  // L2 distance of all compared logits from repetition 0's, [repetition - 1].
  // Optional; it is what the noise is stated in where only logits differ.
  std::vector<double> logits_l2;
  std::vector<double> seconds;                                // of each repetition
  std::vector<std::string> warnings;                          // of PyTorch's deterministic mode
  std::vector<std::pair<std::string, std::string>> settings;  // named settings of the runtime
};

// Noise over repetitions, as the user's document defines it, over the chosen
// tokens' logprobs: L2 of (repetition 0 - repetition i) for i >= 1, and the
// standard deviation over all repetitions of each position. Standard deviations
// are of the population (divided by n). Nothing where it cannot be computed
// (fewer than two repetitions, rows of unequal length, NaN or infinity;
// `reason` says which). All in float64.
struct NoiseStatistics {
  bool tokens_identical = false;
  bool logprobs_exact = false;  // equal bits of the chosen tokens' logprobs
  bool logits_exact = false;    // equal bits of all compared logits
  std::optional<double> l2_mean, l2_std, l2_max, l2_min;
  std::optional<double> std_per_token_mean, std_per_token_max, std_per_token_min;
  std::string reason;
  // The same over the common prefix of the tokens, where they part.
  std::optional<int> parting_position;  // first position where any repetition's token differs
  std::optional<double> prefix_l2_mean, prefix_l2_std, prefix_l2_max, prefix_l2_min;
  std::optional<double> prefix_std_per_token_mean, prefix_std_per_token_max, prefix_std_per_token_min;
  // Of ModeRecord::logits_l2, where it was filled.
  std::optional<double> logits_l2_mean, logits_l2_std, logits_l2_max, logits_l2_min;
};
NoiseStatistics ComputeNoise(const ModeRecord& mode);
// The same from what a file holds; `logits_exact` and `logits_l2_*` stay unset.
NoiseStatistics ComputeNoise(const std::vector<std::vector<std::int64_t>>& tokens,
                             const std::vector<std::vector<double>>& logprobs);

// Of values, with the population's standard deviation; nothing if empty.
struct Spread {
  double mean = 0, std = 0, max = 0, min = 0;
};
std::optional<Spread> SpreadOf(const std::vector<double>& values);

// ---- evidence ----

enum class Finding : std::uint8_t { kShown, kRefuted, kNotLookedAt };
std::string_view NameOf(Finding finding);       // "shown", "refuted", "not_looked_at"
std::string_view NameOf(ProfileStatus status);  // "ok", "not_requested", ...

struct Evidence {
  Finding finding = Finding::kNotLookedAt;
  std::string detail;  // what was seen, with figures; or why it was not looked at
};

// A kernel that an operation launched on a GPU while it was replayed alone.
struct ReplayKernel {
  std::string name;    // demangled, capped
  double per_run = 0;  // launches of a run, on average
  // Its machine code holds floating-point additions that are atomic.
  Evidence float_atomics;
};

struct EvidenceRecord {
  // The first operation whose bits differ between two repetitions in place.
  Evidence first_operation;
  std::string first_operation_name;  // "layer 0 down_proj"
  int first_operation_step = -1;     // 0: prefill
  bool first_operation_is_int4 = false;
  // That operation alone, on frozen inputs, run `replay_runs` times.
  Evidence replay_differs;
  int replay_runs = 0;
  int replay_patterns = 0;
  // The ordered twin on the same inputs gives one pattern.
  Evidence ordered_twin_exact;
  // Differences between patterns are within the bound of re-ordered rounding.
  Evidence within_rounding_bound;
  double largest_difference = 0;
  double rounding_bound = 0;
  // On a GPU: the kernels that the operation launched in its replay.
  Evidence replay_kernels;
  std::vector<ReplayKernel> kernels;
  // Any of them adds floating-point numbers atomically, by its machine code.
  // Refuted only where all of them were looked at.
  Evidence float_atomics;
  // Under the deterministic switch the operation alone, on the same inputs,
  // gives one pattern.
  Evidence switch_on_operation;
  int switch_runs = 0;
  int switch_patterns = 0;
};

// ---- the whole ----

// What a result may depend on. CollectEnvironment() of environment.h fills it.
struct Environment {
  std::vector<std::pair<std::string, std::string>> values;  // "cpu", "threads", "torch", "git_revision", ...
  std::vector<std::string> argv;
  std::map<std::string, std::string> variables;  // OMP_NUM_THREADS, ...; set ones only
};

struct RunConfig {
  int tensor_parallel = 1;
  std::int64_t max_model_len = 8192;
  int max_tokens = 50;
  int repetitions = 20;
  double temperature = 0.0;
  std::uint64_t seed = 42;
};

struct Cost {
  double load_seconds = 0, warmup_seconds = 0, baseline_seconds = 0, profile_seconds = 0;
  double control_seconds = 0, evidence_seconds = 0, reload_seconds = 0, deterministic_seconds = 0;
  double total_seconds = 0;
};

// A library of foreign operators that a kernel came from.
struct OpLibraryRecord {
  std::string name;  // of the file
  std::uint64_t bytes = 0;
  std::string digest;  // XXH3-128 of the file, 32 hex digits
};

struct VariantRecord {
  std::string variant, model, quantization, description, note;
  // Of the variants file, "Qwen/Qwen3-8B-AWQ"; `model` is what ran, for the
  // embedded model "tiny_qwen3-awq (embedded)".
  std::string table_model;
  std::string started_at;  // ISO 8601 with microseconds, local time as Python's isoformat()
  RunConfig config;
  bool success = false;
  std::string error;  // one line, where success is false

  std::string model_source;  // "embedded", "--model-dir", "QUANT_MODELS_DIR", "huggingface_cache"
  std::string model_path;    // relative for the embedded model
  std::string device;        // "cpu", "cuda:0"
  std::string provider;      // "builtin", "aten", "openvino", "vllm"
  std::vector<OpLibraryRecord> op_libraries;
  // Where the kernel has several ways by the number of rows: (rows, way), of the
  // prompt and of a decode step.
  std::vector<std::pair<std::int64_t, std::string>> kernel_paths;
  std::string kernel;    // family of variants.json
  std::string compute;   // "fp16"
  std::string expected;  // "bit_exact", "nondeterministic", "" if variants.json does not say
  std::int64_t prompt_length = 0;
  std::vector<std::int64_t> prompt_ids;
  std::string text;  // what repetition 0 wrote

  ModeRecord baseline, deterministic;
  KernelProfile profile;
  std::vector<gtest_determinism::ControlResult> controls;
  EvidenceRecord evidence;
  // What a reader must know first, beside what the verdict finds: a flag that had
  // no effect on this variant, say. One line each.
  std::vector<std::string> remarks;
  Environment environment;
  Cost cost;
};

}  // namespace reporters

#endif  // REPORTERS_RECORD_H_
