// Names the cause of a computation on a GPU whose bits differ from run to run,
// by rules on evidence (docs/verdicts.md, D1 to D9); where no rule holds the
// cause is unknown.
#ifndef REPORTERS_CUDA_DIAGNOSIS_H_
#define REPORTERS_CUDA_DIAGNOSIS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest_determinism/runner.h"
#include "reporters/cuda/activity.h"
#include "reporters/cuda/machine_code.h"

namespace reporters {

enum class Cause : std::uint8_t {
  kNothingDiffers,    // in the runs that were made
  kUnknown,           // it differs, and no rule holds
  kUnsetMemory,       // memory is read that was not written
  kChangingLaunches,  // other kernels or other sizes from run to run (an algorithm chosen by measured time)
  kUnorderedStreams,  // two streams without an order between them
  kEarlyReuse,        // memory is filled anew while what reads it is still at work
  kFloatAtomics,      // floating-point additions in the order of arrival
  kRaceInKernel,      // by elimination: a race between threads of one kernel
  kBatchTiling,       // of DiagnoseBatch(): another kernel or another grid for another batch size
};
std::string_view NameOf(Cause cause);  // "nothing_differs", "unknown", ...

// Runs of the callable under one condition.
struct Trial {
  bool made = false;
  std::string reason;  // why not
  int runs = 0, comparisons = 0, deviations = 0, patterns = 0;
  gtest_determinism::Digest first{};  // the pattern of run 0
  bool Differs() const { return made && deviations > 0; }
  bool Exact() const { return made && comparisons > 0 && deviations == 0; }
};

// Two operations on different streams, of which the later launched began before
// the earlier one had ended: nothing made it wait.
struct Overlap {
  std::string first, second;  // names of kernels or copies, in the order of their launches
  // The second is a copy or a fill, or a kernel that its stream had run in the
  // same run before the first was launched: memory is used a second time.
  bool again = false;
  int runs = 0;  // in how many of the profiled runs
};

// All that the rules look at.
struct DiagnosisEvidence {
  Trial plain;
  // Memory that may be read unset was filled with one byte before each run; with
  // another byte.
  Trial poisoned, poisoned_otherwise;
  Trial serial;           // each launch and each copy was waited for before the next call
  Trial serial_poisoned;  // that, and the first of the two bytes
  // Under the profiler: the launches (names, grids, blocks, shared memory) of
  // each run, numbered by first appearance, and its bit pattern.
  ProfileStatus profile = ProfileStatus::kNotRequested;
  std::string profile_reason;
  std::vector<int> launches_of_run, pattern_of_run;
  std::string launches_differ;  // "run 0 launched A <<<8x1x1, 256x1x1>>>, run 3 B <<<...>>>"; "" where they do not
  int streams = 0;              // on which anything ran
  std::vector<Overlap> overlaps;
  std::vector<FunctionCode> code;  // of all that ran; empty: not looked at
  std::string code_reason;
  Trial ordered;  // DiagnosisOptions::ordered
};

struct Diagnosis {
  Cause cause = Cause::kUnknown;
  std::string rule;  // "D5"
  std::string text;  // the cause and what shows it, with figures
  DiagnosisEvidence evidence;
};

// The rules. Pure.
Diagnosis DiagnoseEvidence(const DiagnosisEvidence& evidence);

struct DiagnosisOptions {
  int runs = 50;  // under each condition
  int device = 0;
  // Fills what the computation may read before it wrote it: its workspace, or
  // what its allocator hands out next. Unset: free memory of the device, as
  // cudaMalloc() hands it out.
  std::function<void(std::uint8_t value)> poison = {};
  // The same computation with its additions in a fixed order, where there is
  // one: float atomics are named only if it gives one pattern.
  std::function<void(gtest_determinism::Outputs&)> ordered = {};
};

namespace internal {
// `run(options, before, after)`: RunRepeated() of the callable, told before and
// after each run.
using RunTrial =
    std::function<gtest_determinism::Report(const gtest_determinism::Options& options,
                                            const std::function<void()>& before, const std::function<void()>& after)>;
Diagnosis DiagnoseTrials(const RunTrial& run, const DiagnosisOptions& options);
}  // namespace internal

// `callable`: as RunRepeated() takes it, without an input. It runs about six
// times `options.runs` times, and must not capture a stream into a graph
// (launching one is well). Needs a device; without one, or where CUPTI is not to
// be had, what could not be looked at is said in the evidence.
template <class F>
Diagnosis Diagnose(F&& callable, const DiagnosisOptions& options = {}) {
  const internal::RunTrial run = [&callable](const gtest_determinism::Options& trial,
                                             const std::function<void()>& before, const std::function<void()>& after) {
    if constexpr (gtest_determinism::internal::kFillsOutputs<F>) {
      return gtest_determinism::RunRepeated(
          [&](gtest_determinism::Outputs& outputs) {
            before();
            callable(outputs);
            after();
          },
          trial);
    } else {
      return gtest_determinism::RunRepeated(
          [&] {
            before();
            auto result = callable();
            after();
            return result;
          },
          trial);
    }
  };
  return internal::DiagnoseTrials(run, options);
}

// One batch size: the bits of the same row, and what was launched for it.
struct BatchTrial {
  int batch = 0;
  Trial trial;
  std::string kernels;  // names, blocks and shared memory of all launches
  std::string grids;    // and their grids
};
// The rule D8. Pure.
Diagnosis DiagnoseBatchTrials(const std::vector<BatchTrial>& trials);

namespace internal {
Diagnosis DiagnoseBatches(const std::vector<int>& batches, const std::function<RunTrial(int batch)>& run_of,
                          const DiagnosisOptions& options);
}  // namespace internal

// `callable(batch)` returns, from a computation over `batch` rows, the row whose
// bits must not depend on `batch`. Whether each batch size repeats is Diagnose()'s
// question; here sizes are compared with each other.
template <class F>
Diagnosis DiagnoseBatch(F&& callable, const std::vector<int>& batches, const DiagnosisOptions& options = {}) {
  const auto run_of = [&callable](int batch) -> internal::RunTrial {
    return [&callable, batch](const gtest_determinism::Options& trial, const std::function<void()>& before,
                              const std::function<void()>& after) {
      return gtest_determinism::RunRepeated(
          [&] {
            before();
            auto row = callable(batch);
            after();
            return row;
          },
          trial);
    };
  };
  return internal::DiagnoseBatches(batches, run_of, options);
}

}  // namespace reporters

#endif  // REPORTERS_CUDA_DIAGNOSIS_H_
