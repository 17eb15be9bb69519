#include "reporters/cuda/diagnosis.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "reporters/cuda/kernel_profiler.h"
#include "reporters/cuda/serial_launches.h"

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <cuda_runtime_api.h>
#endif

namespace reporters {
namespace {

using gtest_determinism::Options;
using gtest_determinism::Outcome;
using gtest_determinism::Report;

constexpr std::uint8_t kOneByte = 0x3f;      // floats of 0.747, halves of 1.8
constexpr std::uint8_t kAnotherByte = 0xc1;  // floats of -24.2, halves of -2.8

Options TrialOptions(int runs) {
  Options options;
  options.runs = runs;
  options.warmups = 1;
  options.perturbations.emplace();
  options.budget = std::chrono::hours(24 * 365);
  return options;
}

Trial TrialOf(const Report& report) {
  Trial trial;
  trial.made = report.outcome != Outcome::kError && report.outcome != Outcome::kSkipped;
  trial.reason = report.reason;
  trial.runs = report.runs;
  trial.comparisons = report.power.comparisons;
  trial.deviations = report.power.deviations;
  trial.patterns = static_cast<int>(report.patterns.size());
  if (!report.patterns.empty()) trial.first = report.patterns[0].digest;
  return trial;
}

Trial NotMade(const std::string& reason) {
  Trial trial;
  trial.reason = reason;
  return trial;
}

void Synchronize() {
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  cudaDeviceSynchronize();
#endif
}

// Free memory of the device, in the sizes in which an allocator deals, filled
// and given back: what cudaMalloc() hands out next holds `value`.
void PoisonFreeMemory(std::uint8_t value) {
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  struct Sizes {
    std::size_t bytes;
    int blocks;
  };
  static constexpr Sizes kSizes[] = {{512, 64},
                                     {std::size_t{8} << 10, 64},
                                     {std::size_t{64} << 10, 32},
                                     {std::size_t{512} << 10, 16},
                                     {std::size_t{4} << 20, 8},
                                     {std::size_t{64} << 20, 4}};
  std::vector<void*> blocks;
  for (const Sizes& size : kSizes) {
    for (int i = 0; i < size.blocks; ++i) {
      void* block = nullptr;
      if (cudaMalloc(&block, size.bytes) != cudaSuccess) {
        cudaGetLastError();  // a full device has no free memory to poison
        break;
      }
      blocks.push_back(block);
      cudaMemset(block, value, size.bytes);
    }
  }
  cudaDeviceSynchronize();
  for (void* block : blocks) cudaFree(block);
#else
  (void)value;
#endif
}

std::string Dim(const std::array<std::int64_t, 3>& d) {
  return std::to_string(d[0]) + "x" + std::to_string(d[1]) + "x" + std::to_string(d[2]);
}

std::string KernelText(const ProfiledKernel& kernel) {
  const KernelActivity& a = kernel.activity;
  return kernel.name + " block " + Dim(a.block) + " shared " +
         std::to_string(a.static_shared_bytes + a.dynamic_shared_bytes);
}

std::string LaunchText(const ProfiledKernel& kernel) {
  return kernel.name + " <<<" + Dim(kernel.activity.grid) + ", " + Dim(kernel.activity.block) + ", " +
         std::to_string(kernel.activity.dynamic_shared_bytes) + ">>>";
}

// In the order of the calls, which is that of the program; within a replayed
// graph in that of its nodes.
std::vector<const ProfiledKernel*> ByLaunch(const CudaProfile& profile) {
  std::vector<const ProfiledKernel*> kernels;
  for (const ProfiledKernel& kernel : profile.kernels) kernels.push_back(&kernel);
  std::stable_sort(kernels.begin(), kernels.end(), [](const auto* a, const auto* b) {
    return std::pair(a->activity.correlation_id, a->activity.graph_node) <
           std::pair(b->activity.correlation_id, b->activity.graph_node);
  });
  return kernels;
}

struct Operation {
  std::string name;
  bool copy = false;
  std::uint32_t correlation_id = 0, stream = 0;
  std::uint64_t start = 0, end = 0;
};

std::vector<Operation> OperationsOf(const CudaProfile& profile) {
  std::vector<Operation> operations;
  for (const auto& [activity, name, scope] : profile.kernels) {
    operations.push_back({name, false, activity.correlation_id, activity.stream, activity.start_ns, activity.end_ns});
  }
  for (const auto& [activity, scope] : profile.copies) {
    operations.push_back(
        {activity.name, true, activity.correlation_id, activity.stream, activity.start_ns, activity.end_ns});
  }
  std::sort(operations.begin(), operations.end(),
            [](const Operation& a, const Operation& b) { return a.correlation_id < b.correlation_id; });
  return operations;
}

// What a profiled run adds to the evidence.
class RunReader {
 public:
  explicit RunReader(DiagnosisEvidence& evidence) : evidence_(evidence) {}

  void Read(const CudaProfile& profile) {
    if (profile.status != ProfileStatus::kOk && evidence_.profile == ProfileStatus::kOk) {
      evidence_.profile = profile.status;
      evidence_.profile_reason = profile.reason;
    }
    std::string list;
    std::string first_difference;
    std::vector<std::string> launches;
    for (const ProfiledKernel* kernel : ByLaunch(profile)) {
      functions_.insert(kernel->activity.name);
      launches.push_back(LaunchText(*kernel));
      list += launches.back() + "\n";
    }
    const auto [found, added] = lists_.try_emplace(list, static_cast<int>(lists_.size()));
    if (added) Explain(launches);
    evidence_.launches_of_run.push_back(found->second);
    std::set<std::uint32_t> streams;
    const std::vector<Operation> operations = OperationsOf(profile);
    for (const Operation& operation : operations) streams.insert(operation.stream);
    evidence_.streams = std::max(evidence_.streams, static_cast<int>(streams.size()));
    ReadOverlaps(operations);
  }

  std::vector<std::string> functions() const { return {functions_.begin(), functions_.end()}; }

 private:
  void Explain(const std::vector<std::string>& launches) {
    if (first_.empty() && evidence_.launches_of_run.empty()) {
      first_ = launches;
      return;
    }
    if (!evidence_.launches_differ.empty()) return;
    const auto at = std::mismatch(first_.begin(), first_.end(), launches.begin(), launches.end());
    const auto text = [](auto it, const auto& list) { return it == list.end() ? "nothing more" : *it; };
    evidence_.launches_differ = "As launch " + std::to_string(at.first - first_.begin()) + " run 0 has " +
                                text(at.first, first_) + ", run " + std::to_string(evidence_.launches_of_run.size()) +
                                " has " + text(at.second, launches);
  }

  void ReadOverlaps(const std::vector<Operation>& operations) {
    std::set<std::tuple<std::string, std::string, bool>> here;
    for (std::size_t i = 0; i < operations.size(); ++i) {
      for (std::size_t j = i + 1; j < operations.size(); ++j) {
        const Operation& first = operations[i];
        const Operation& second = operations[j];
        if (first.stream == second.stream || first.correlation_id == second.correlation_id) continue;
        if (second.start >= first.end) continue;
        const bool again =
            second.copy ||
            std::any_of(operations.begin(), operations.begin() + static_cast<std::ptrdiff_t>(i),
                        [&](const Operation& earlier) {
                          return earlier.stream == second.stream && !earlier.copy && earlier.name == second.name;
                        });
        here.emplace(first.name, second.name, again);
      }
    }
    for (const auto& [first, second, again] : here) {
      const auto found =
          std::find_if(evidence_.overlaps.begin(), evidence_.overlaps.end(), [&](const Overlap& overlap) {
            return overlap.first == first && overlap.second == second && overlap.again == again;
          });
      if (found != evidence_.overlaps.end()) {
        ++found->runs;
      } else {
        evidence_.overlaps.push_back({first, second, again, 1});
      }
    }
  }

  DiagnosisEvidence& evidence_;
  std::map<std::string, int> lists_;
  std::vector<std::string> first_;
  std::set<std::string> functions_;
};

// RunRepeated() makes a warm-up first: what was seen in it is not of a run.
Trial RunProfiled(const internal::RunTrial& run, int runs, CuptiProfiler& profiler,
                  const std::function<void(const CudaProfile&)>& read, std::vector<int>* pattern_of_run) {
  int seen = 0;
  const Report report = run(
      TrialOptions(runs), [&] { profiler.Take(); },
      [&] {
        const CudaProfile profile = profiler.Take();
        if (seen++ > 0) read(profile);
      });
  if (pattern_of_run != nullptr) *pattern_of_run = report.pattern_of_run;
  return TrialOf(report);
}

}  // namespace

namespace internal {

Diagnosis DiagnoseTrials(const RunTrial& run, const DiagnosisOptions& options) {
  DiagnosisEvidence evidence;
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  if (const cudaError_t error = cudaSetDevice(options.device); error != cudaSuccess) {
    evidence.plain =
        NotMade(std::string("device ") + std::to_string(options.device) + ": " + cudaGetErrorString(error));
    return DiagnoseEvidence(evidence);
  }
#endif
  std::string not_watched;
  WatchModules(&not_watched);
  const std::function<void()> nothing = [] {};
  const auto poison = options.poison ? options.poison : std::function<void(std::uint8_t)>(PoisonFreeMemory);
  const auto trial = [&](const std::function<void()>& before) {
    return TrialOf(run(TrialOptions(options.runs), before, nothing));
  };
  const auto poisoned = [&](std::uint8_t value) {
    return trial([&poison, value] {
      Synchronize();
      poison(value);
      Synchronize();
    });
  };
  evidence.plain = trial(nothing);
  if (!evidence.plain.made) return DiagnoseEvidence(evidence);
  evidence.poisoned = poisoned(kOneByte);
  evidence.poisoned_otherwise = poisoned(kAnotherByte);
  // Where nothing differs there is nothing to intervene in.
  const bool differs = evidence.plain.Differs() || evidence.poisoned.Differs() || evidence.poisoned_otherwise.Differs();
  if (!differs) return DiagnoseEvidence(evidence);

  {
    const SerialLaunches serial;
    if (serial.active()) {
      evidence.serial = trial(nothing);
      evidence.serial_poisoned = poisoned(kOneByte);
    } else {
      evidence.serial = evidence.serial_poisoned = NotMade(serial.reason());
    }
  }
  CuptiProfiler profiler;
  if (profiler.Start()) {
    evidence.profile = ProfileStatus::kOk;
    RunReader reader(evidence);
    RunProfiled(
        run, options.runs, profiler, [&](const CudaProfile& profile) { reader.Read(profile); },
        &evidence.pattern_of_run);
    profiler.Stop();
    evidence.code = ReadMachineCode(reader.functions());
  } else {
    evidence.profile = ProfileStatus::kUnavailable;
    evidence.profile_reason = profiler.reason();
  }
  if (!not_watched.empty()) evidence.code_reason = not_watched;
  if (options.ordered) {
    evidence.ordered = TrialOf(gtest_determinism::RunRepeated(options.ordered, TrialOptions(options.runs)));
  }
  return DiagnoseEvidence(evidence);
}

Diagnosis DiagnoseBatches(const std::vector<int>& batches, const std::function<RunTrial(int batch)>& run_of,
                          const DiagnosisOptions& options) {
  std::vector<BatchTrial> trials;
  CuptiProfiler profiler;
  profiler.Start();
  for (const int batch : batches) {
    BatchTrial entry;
    entry.batch = batch;
    const RunTrial run = run_of(batch);
    entry.trial = TrialOf(run(
        TrialOptions(options.runs), [] {}, [] {}));
    if (profiler.started()) {
      RunProfiled(
          run, 2, profiler,
          [&](const CudaProfile& profile) {
            entry.kernels.clear();
            entry.grids.clear();
            for (const ProfiledKernel* kernel : ByLaunch(profile)) {
              entry.kernels += (entry.kernels.empty() ? "" : ", ") + KernelText(*kernel);
              entry.grids += (entry.grids.empty() ? "" : ", ") + Dim(kernel->activity.grid);
            }
          },
          nullptr);
    }
    trials.push_back(std::move(entry));
  }
  return DiagnoseBatchTrials(trials);
}

}  // namespace internal

}  // namespace reporters
