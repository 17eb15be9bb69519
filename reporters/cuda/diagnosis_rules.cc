#include <algorithm>
#include <map>
#include <set>

#include "reporters/cuda/diagnosis.h"
#include "reporters/text.h"
#include "reporters/verdict.h"

namespace reporters {
namespace {

constexpr double kSignificance = 0.05;

std::string Runs(int n) { return std::to_string(n) + (n == 1 ? " run" : " runs"); }

std::string Figures(const Trial& trial) {
  return std::to_string(trial.deviations) + " of " + std::to_string(trial.comparisons) + " comparisons differ";
}

// No run differs under the condition, and that is no chance.
bool Ends(const Trial& plain, const Trial& changed, double* p) {
  if (!plain.Differs() || !changed.Exact()) return false;
  *p = FisherExactP(plain.deviations, plain.comparisons, changed.deviations, changed.comparisons);
  return *p <= kSignificance;
}

// Two runs with the same launches and different bits, or the reverse.
struct LaunchesAndBits {
  bool bits_follow = false;           // one pattern for each list of launches, and more than one of both
  bool same_launches_differ = false;  // two patterns for one list
};
LaunchesAndBits Compare(const DiagnosisEvidence& evidence) {
  std::map<int, std::set<int>> patterns_of;
  std::set<int> patterns;
  const std::size_t runs = std::min(evidence.launches_of_run.size(), evidence.pattern_of_run.size());
  for (std::size_t i = 0; i < runs; ++i) {
    patterns_of[evidence.launches_of_run[i]].insert(evidence.pattern_of_run[i]);
    patterns.insert(evidence.pattern_of_run[i]);
  }
  LaunchesAndBits result;
  result.same_launches_differ =
      std::any_of(patterns_of.begin(), patterns_of.end(), [](const auto& entry) { return entry.second.size() > 1; });
  result.bits_follow = patterns_of.size() > 1 && patterns.size() > 1 && !result.same_launches_differ;
  return result;
}

std::string Name(const Overlap& overlap) {
  return overlap.second + " began before " + overlap.first + " had ended (" + Runs(overlap.runs) + ")";
}

std::string Names(const std::vector<Overlap>& overlaps, bool again) {
  std::string text;
  int named = 0;
  for (const Overlap& overlap : overlaps) {
    if (overlap.again != again || named == 3) continue;
    text += (named++ == 0 ? "" : "; ") + Name(overlap);
  }
  return text;
}

}  // namespace

std::string_view NameOf(Cause cause) {
  switch (cause) {
    case Cause::kNothingDiffers:
      return "nothing_differs";
    case Cause::kUnknown:
      return "unknown";
    case Cause::kUnsetMemory:
      return "unset_memory";
    case Cause::kChangingLaunches:
      return "changing_launches";
    case Cause::kUnorderedStreams:
      return "unordered_streams";
    case Cause::kEarlyReuse:
      return "early_reuse";
    case Cause::kFloatAtomics:
      return "float_atomics";
    case Cause::kRaceInKernel:
      return "race_in_kernel";
    case Cause::kBatchTiling:
      return "batch_tiling";
  }
  return "unknown";
}

Diagnosis DiagnoseEvidence(const DiagnosisEvidence& evidence) {
  Diagnosis diagnosis;
  diagnosis.evidence = evidence;
  const auto is = [&](const char* rule, Cause cause, const std::string& text) {
    diagnosis.rule = rule;
    diagnosis.cause = cause;
    diagnosis.text = text;
    return diagnosis;
  };
  const Trial& plain = evidence.plain;
  if (!plain.made || plain.comparisons < 1) {
    return is("D9", Cause::kUnknown,
              "Unknown: it was not run twice" + (plain.reason.empty() ? "" : ": " + plain.reason) + ".");
  }
  const Trial& one = evidence.poisoned;
  const Trial& other = evidence.poisoned_otherwise;
  if (one.Exact() && other.Exact() && one.first != other.first) {
    return is("D1", Cause::kUnsetMemory,
              "Memory is read that was not written: with one byte in free memory all of " + Runs(one.runs) +
                  " give one bit pattern, with another byte all of " + Runs(other.runs) +
                  " give another one. Without, " + Figures(plain) + ".");
  }
  const bool poison_differs = one.Differs() || other.Differs();
  if (!plain.Differs() && !poison_differs) {
    return is("D2", Cause::kNothingDiffers,
              "Nothing to name: " + Runs(plain.runs) + " gave one bit pattern" +
                  (one.made && other.made ? ", whatever free memory held" : "") + ".");
  }

  const LaunchesAndBits launches = Compare(evidence);
  if (launches.bits_follow) {
    return is("D3", Cause::kChangingLaunches,
              "What is launched changes from run to run, and the bits follow it: each list of launches has one bit "
              "pattern. So it is where an algorithm is chosen by measured time. " +
                  evidence.launches_differ + ".");
  }
  double p = 1;
  if (Ends(plain, evidence.serial, &p) && !evidence.overlaps.empty()) {
    const std::string ends = "Launches that wait for each other end it: " + Figures(evidence.serial) + ", " +
                             std::to_string(plain.deviations) + " of " + std::to_string(plain.comparisons) +
                             " without (p = " + FormatScientific(p) + ").";
    const bool all_again = std::all_of(evidence.overlaps.begin(), evidence.overlaps.end(),
                                       [](const Overlap& overlap) { return overlap.again; });
    if (all_again) {
      return is("D5", Cause::kEarlyReuse,
                "Memory is used again too early: on another stream " + Names(evidence.overlaps, true) +
                    ", and nothing made it wait. " + ends);
    }
    return is("D4", Cause::kUnorderedStreams,
              "Two streams without an order between them: on another stream " + Names(evidence.overlaps, false) + ". " +
                  ends);
  }

  // From here on the cause lies within one kernel: the order of launches is no
  // matter, since waiting does not end it or there is one stream only.
  const bool one_stream = evidence.profile == ProfileStatus::kOk && evidence.streams == 1;
  const bool in_one_kernel = evidence.serial.Differs() || (!evidence.serial.made && one_stream);
  const bool memory_fixed = evidence.serial_poisoned.Differs() || (!evidence.serial_poisoned.made && one.Differs());
  std::string with_atomics, unread;
  int read = 0;
  for (const FunctionCode& code : evidence.code) {
    if (code.float_atomics.finding == Finding::kShown) {
      with_atomics += (with_atomics.empty() ? "" : "; ") + DemangledName(code.name) + ": " + code.float_atomics.detail;
    } else if (code.float_atomics.finding == Finding::kNotLookedAt) {
      unread += (unread.empty() ? "" : "; ") + DemangledName(code.name) + ": " + code.float_atomics.detail;
    } else {
      ++read;
    }
  }
  const std::string excluded =
      std::string("Excluded: the order of launches (") +
      (evidence.serial.Differs() ? "each waited for, " + Figures(evidence.serial) : "one stream only") +
      ") and unset memory (one byte in it, " + Figures(evidence.serial_poisoned.made ? evidence.serial_poisoned : one) +
      ")";
  const bool within = plain.Differs() && in_one_kernel && memory_fixed && launches.same_launches_differ;
  if (within && !with_atomics.empty() && !evidence.ordered.Differs()) {
    std::string text = "Floating-point additions in the order of arrival, by atomics. Machine code: " + with_atomics +
                       ". " + excluded + ", a choice of kernels (the same launches gave different bits)";
    if (Ends(plain, evidence.ordered, &p)) {
      text +=
          ". With its additions in a fixed order " + Figures(evidence.ordered) + " (p = " + FormatScientific(p) + ")";
    } else {
      text += ". Not excluded: a race beside the atomics";
    }
    return is("D6", Cause::kFloatAtomics, text + ".");
  }
  if (within && with_atomics.empty() && unread.empty() && read > 0) {
    return is(
        "D7", Cause::kRaceInKernel,
        "By elimination a race between threads of one kernel (a missing __syncthreads, say). " + excluded +
            ", a choice of kernels (the same launches gave different bits), atomic additions of floats (none in the "
            "machine code of " +
            std::to_string(read) + (read == 1 ? " kernel)." : " kernels)."));
  }

  std::string seen = "Unknown. " + Figures(plain);
  const auto add = [&](const std::string& what, const Trial& trial) {
    if (trial.made) {
      seen += "; " + what + " " + Figures(trial);
    } else if (!trial.reason.empty()) {
      seen += "; " + what + " not tried: " + trial.reason;
    }
  };
  add("with one byte in free memory", one);
  add("with another", other);
  add("with launches that wait for each other", evidence.serial);
  add("with both", evidence.serial_poisoned);
  add("with its additions in a fixed order", evidence.ordered);
  if (!with_atomics.empty()) seen += "; atomic additions of floats: " + with_atomics;
  if (!unread.empty()) seen += "; machine code not read: " + unread;
  if (evidence.code.empty() && !evidence.code_reason.empty()) seen += "; machine code: " + evidence.code_reason;
  if (evidence.profile != ProfileStatus::kOk) {
    seen += "; launches: " + std::string(NameOf(evidence.profile)) +
            (evidence.profile_reason.empty() ? "" : ", " + evidence.profile_reason);
  }
  return is("D9", Cause::kUnknown, seen + ".");
}

Diagnosis DiagnoseBatchTrials(const std::vector<BatchTrial>& trials) {
  Diagnosis diagnosis;
  const auto is = [&](const char* rule, Cause cause, const std::string& text) {
    diagnosis.rule = rule;
    diagnosis.cause = cause;
    diagnosis.text = text;
    return diagnosis;
  };
  std::set<gtest_determinism::Digest> patterns;
  for (const BatchTrial& trial : trials) {
    const std::string at = "batch " + std::to_string(trial.batch);
    if (!trial.trial.Exact()) {
      return is("D9", Cause::kUnknown,
                "Unknown: " + at + " is not bit-exact by itself" +
                    (trial.trial.made             ? ", " + Figures(trial.trial)
                     : trial.trial.reason.empty() ? ""
                                                  : ": " + trial.trial.reason) +
                    "; Diagnose() it first.");
    }
    patterns.insert(trial.trial.first);
  }
  if (patterns.size() < 2) {
    return is("D2", Cause::kNothingDiffers,
              "Nothing to name: the row has the same bits in " + std::to_string(trials.size()) + " batch sizes.");
  }
  // A list of kernels with two patterns is no explanation of them.
  const auto follows = [&](auto key) {
    std::map<std::string, std::set<gtest_determinism::Digest>> patterns_of;
    for (const BatchTrial& trial : trials) patterns_of[key(trial)].insert(trial.trial.first);
    return patterns_of.size() > 1 && std::all_of(patterns_of.begin(), patterns_of.end(),
                                                 [](const auto& entry) { return entry.second.size() == 1; });
  };
  std::string list;
  for (const BatchTrial& trial : trials) {
    list += (list.empty() ? "" : "; ") + std::string("batch ") + std::to_string(trial.batch) + ": " + trial.kernels;
  }
  const bool launches_known =
      std::all_of(trials.begin(), trials.end(), [](const BatchTrial& trial) { return !trial.kernels.empty(); });
  const std::string begin = "Each batch size is bit-exact by itself, but the same row has " +
                            std::to_string(patterns.size()) + " bit patterns in " + std::to_string(trials.size()) +
                            " batch sizes";
  if (launches_known && follows([](const BatchTrial& trial) { return trial.kernels; })) {
    return is("D8", Cause::kBatchTiling,
              begin + ", and they follow the kernel or its tile, which changes with the batch. " + list + ".");
  }
  if (launches_known && follows([](const BatchTrial& trial) { return trial.kernels + trial.grids; })) {
    for (const BatchTrial& trial : trials) list += "; batch " + std::to_string(trial.batch) + " grids: " + trial.grids;
    // Where each size has a grid of its own, to follow the grid is to follow the batch.
    return is("D8", Cause::kBatchTiling,
              begin + "; the kernels are the same, the grid changes with the batch. " + list + ".");
  }
  return is(
      "D9", Cause::kUnknown,
      "Unknown. " + begin + (launches_known ? "; what is launched does not explain it." : "; launches were not seen."));
}

}  // namespace reporters
