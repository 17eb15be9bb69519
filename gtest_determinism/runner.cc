#include "gtest_determinism/runner.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <set>
#include <utility>

#include "gtest_determinism/compare.h"
#include "gtest_determinism/configuration.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/perturbations.h"
#include "gtest_determinism/statistics.h"

namespace gtest_determinism::internal {
namespace {

using Clock = std::chrono::steady_clock;

InterruptionProbe& Probe() {
  static InterruptionProbe probe;
  return probe;
}

// Ends the runs; carries what the report says.
struct Stop {
  Outcome outcome;
  std::string reason;
};

std::string WhatOf(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "something that is not a std::exception";
  }
}

// Applies all, and undoes those that were applied in reverse order, also where
// a run or a later Apply() throws.
class PerturbationScope {
 public:
  PerturbationScope(const std::vector<std::shared_ptr<Perturbation>>& all, int run, std::uint64_t seed) : all_(all) {
    try {
      for (; applied_ < all_.size(); ++applied_) all_[applied_]->Apply(run, seed);
    } catch (...) {
      UndoAfterThrow();
      throw;
    }
  }
  PerturbationScope(const PerturbationScope&) = delete;
  PerturbationScope& operator=(const PerturbationScope&) = delete;
  ~PerturbationScope() { UndoAfterThrow(); }
  // What an Undo() throws is passed on; the destructor undoes those that are left.
  void Undo() {
    while (applied_ > 0) all_[--applied_]->Undo();
  }

 private:
  // Something threw before: that is what the report says.
  void UndoAfterThrow() noexcept {
    while (applied_ > 0) {
      try {
        Undo();
      } catch (...) {
      }
    }
  }

  const std::vector<std::shared_ptr<Perturbation>>& all_;
  std::size_t applied_ = 0;
};

void Synchronize(const Trace& trace) {
  std::set<const MemorySpace*> spaces;
  for (const NamedBits& part : trace) spaces.insert(part.view.space);
  for (const MemorySpace* space : spaces) space->Synchronize();
}

NamedBits CopyOf(const NamedBits& part) {
  NamedBits copy{part.name, part.view};
  std::shared_ptr<void> memory = part.view.space->Allocate(part.view.bytes);
  part.view.space->Copy(memory.get(), part.view.data, part.view.bytes);
  copy.view.data = memory.get();
  copy.view.owner = std::move(memory);
  return copy;
}

// Run 0 of an input: its bytes, or its digest alone.
struct Reference {
  Trace kept;  // with digest_only: names and forms, data is null
  std::optional<Digest> digest;
  bool digest_only = false;
};

// The one path by which a run is compared with run 0: nothing if they are equal.
std::optional<Divergence> CompareWith(const Reference& reference, const Trace& actual) {
  if (!reference.digest_only) return CompareTraces(reference.kept, actual);
  if (*reference.digest == DigestOf(actual)) return std::nullopt;
  return DescribeDifferentDigests(reference.kept, actual);
}

// The same without what it is that differs: that is said of the first run only, and
// looking for it takes longer, in many a space by way of the host.
bool Differs(const Reference& reference, const Trace& actual) {
  if (!reference.digest_only) return !HaveSameBits(reference.kept, actual);
  return *reference.digest != DigestOf(actual);
}

class Runner {
 public:
  Runner(Subject& subject, const Options& options) : subject_(subject), options_(options) {}

  Report Run() {
    try {
      Prepare();
      for (int input = 0; input < subject_.InputCount() && !ended_; ++input) RunInput(input);
      Conclude();
    } catch (const Stop& stop) {
      FinishInput();
      Fill();
      report_.outcome = stop.outcome;
      report_.reason = stop.reason;
    } catch (...) {
      FinishInput();
      Fill();
      report_.outcome = Outcome::kError;
      report_.reason = WhatOf(std::current_exception());
    }
    return std::move(report_);
  }

 private:
  void Prepare() {
    report_.property = options_.property;
    report_.compared_by_digest_only = options_.digest_only;
    const Configuration& configuration = GetConfiguration();
    const int inputs = subject_.InputCount();
    rate_below_ = options_.rate_below;
    if (!options_.runs && !rate_below_) rate_below_ = configuration.rate_below;
    runs_ = options_.runs.value_or(rate_below_ ? 0 : configuration.runs);
    if (rate_below_) {
      const std::int64_t comparisons = ComparisonsNeeded(*rate_below_);
      runs_ = std::max(runs_, static_cast<int>((comparisons + std::max(inputs, 1) - 1) / std::max(inputs, 1)) + 1);
    }
    report_.requested_runs = runs_;
    if (inputs <= 0) throw Stop{Outcome::kInconclusive, "no inputs were given, so nothing was run"};
    if (runs_ <= 0) throw Stop{Outcome::kInconclusive, "no runs were asked for, so nothing was compared"};
    if (options_.budget) {
      budget_ = options_.budget;
    } else if (configuration.budget_seconds) {
      budget_ = std::chrono::duration<double>(*configuration.budget_seconds);
    }
    report_.seed = options_.seed.value_or(configuration.seed);
    if (options_.perturbations) {
      perturbations_ = *options_.perturbations;
    } else if (configuration.perturb) {
      perturbations_ = DefaultPerturbations();
    }
    for (const auto& perturbation : perturbations_) {
      report_.perturbations.push_back(perturbation->Name() + "(seed=" + std::to_string(report_.seed) + ")");
    }
    begin_ = Clock::now();
  }

  void RunInput(int input) {
    Guarded("input " + std::to_string(input), [&] { subject_.BeginInput(input); });
    for (int i = 0; i < options_.warmups; ++i) {
      Guarded("warm-up " + std::to_string(i), [&] {
        subject_.Execute(-1 - i);
        subject_.Release();
      });
    }
    reference_ = {};
    reference_.digest_only = options_.digest_only;
    patterns_.clear();
    completed_ = 0;
    for (int run = 0; run < runs_ && !ended_; ++run) {
      if (budget_ && Clock::now() - begin_ >= *budget_) {
        ended_ = budget_ended_ = true;
        break;
      }
      RunOnce(input, run);
      ++completed_;
      if (options_.on_run) options_.on_run(completed_, runs_);
    }
    if (completed_ < runs_ || (ended_ && input + 1 < subject_.InputCount())) report_.stopped_early = true;
    FinishInput();
  }

  // Also where a run threw: what was run before it was run.
  void FinishInput() {
    if (completed_ == 0) return;
    report_.runs = report_.inputs == 0 ? completed_ : std::min(report_.runs, completed_);
    ++report_.inputs;
    report_.distinct_of_input.push_back(static_cast<int>(patterns_.size()));
    completed_ = 0;
  }

  void RunOnce(int input, int run) {
    const std::string name = "run " + std::to_string(run);
    const int mark = Probe().mark != nullptr ? Probe().mark() : 0;
    Trace trace;
    std::optional<PerturbationScope> perturbed;
    Guarded(name, [&] {
      if (run > 0) perturbed.emplace(perturbations_, run, report_.seed);
      const Clock::time_point start = Clock::now();
      subject_.Execute(run);
      // What a skip or a failed assertion left unfinished is not collected.
      if (Probe().since != nullptr) {
        if (const std::optional<Interruption> interruption = Probe().since(mark)) {
          throw Stop{interruption->outcome, name + ": " + interruption->reason};
        }
      }
      trace = subject_.Collect();
      Synchronize(trace);
      if (input == 0) report_.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      if (perturbed) perturbed->Undo();
    });
    Guarded(name, [&] { run == 0 ? KeepReference(input, trace) : CompareRun(input, run, trace); });
    trace.clear();
    Guarded(name, [&] { subject_.Release(); });
  }

  // Exceptions become a Stop that says where they come from.
  template <class F>
  void Guarded(const std::string& where, const F& f) {
    try {
      f();
    } catch (const Stop&) {
      throw;
    } catch (const SkipRuns& skip) {
      throw Stop{Outcome::kSkipped, skip.what()};
    } catch (const OutputError& broken) {
      throw Stop{Outcome::kError, broken.what()};
    } catch (...) {
      throw Stop{Outcome::kError, where + " threw: " + WhatOf(std::current_exception())};
    }
  }

  void KeepReference(int input, const Trace& trace) {
    std::int64_t elements = 0, bytes = 0;
    for (const NamedBits& part : trace) {
      elements += static_cast<std::int64_t>(part.view.bytes / SizeOf(part.view.dtype));
      bytes += static_cast<std::int64_t>(part.view.bytes);
    }
    if (elements == 0) {
      throw Stop{Outcome::kInconclusive, "the callable produced no elements, so nothing was compared"};
    }
    if (input == 0) {
      report_.elements = elements;
      report_.bytes = bytes;
    }
    reference_.digest = DigestOf(trace);
    for (const NamedBits& part : trace) {
      if (options_.digest_only) {
        reference_.kept.push_back({part.name, part.view});
        reference_.kept.back().view.data = nullptr;
        reference_.kept.back().view.owner = nullptr;
        continue;
      }
      try {
        reference_.kept.push_back(CopyOf(part));
      } catch (const std::bad_alloc&) {
        throw Stop{Outcome::kError, "no memory in " + std::string(part.view.space->Name()) + " to keep the " +
                                        std::to_string(bytes) +
                                        " bytes of run 0; return less, or set Options::digest_only"};
      }
    }
    patterns_.push_back({*reference_.digest, 1, 0});
    if (input == 0) {
      report_.patterns = patterns_;
      report_.pattern_of_run.push_back(0);
      CheckTheCheck(trace);
    }
  }

  // A copy of run 0 with one low bit flipped must be found by CompareWith().
  void CheckTheCheck(const Trace& trace) {
    std::vector<std::size_t> candidates;
    for (std::size_t i = 0; i < trace.size(); ++i) {
      if (trace[i].view.bytes != 0) candidates.push_back(i);
    }
    const std::size_t part = candidates[MixSeed(report_.seed, 0) % candidates.size()];
    const BitView& view = trace[part].view;
    const std::size_t size = SizeOf(view.dtype);
    const std::size_t element = MixSeed(report_.seed, 1) % std::max<std::size_t>(view.bytes / size, 1);
    Trace flipped = trace;
    flipped[part] = CopyOf(trace[part]);
    // Its own storage, not const; the lowest bit lies in the first byte (little-endian).
    auto* at = static_cast<unsigned char*>(const_cast<void*>(flipped[part].view.data)) + element * size;
    unsigned char byte = 0;
    view.space->CopyToHost(&byte, at, 1);
    view.space->Fill(at, byte ^ 1, 1);
    view.space->Synchronize();
    const std::optional<Divergence> found = CompareWith(reference_, flipped);
    ControlResult control;
    control.name = "flipped_bit";
    control.runs = 1;
    control.deviations = found ? 1 : 0;
    control.outcome = found ? Outcome::kNondeterministic : Outcome::kBitExact;
    const std::string where = "the lowest bit of element " + std::to_string(element) +
                              (trace[part].name.empty() ? "" : " of '" + trace[part].name + "'");
    const bool at_its_place =
        found && (options_.digest_only ||
                  (found->part_index == static_cast<int>(part) && found->different_parts == 1 &&
                   found->diff.element == static_cast<std::int64_t>(element) && found->diff.different_elements == 1));
    control.as_expected = at_its_place;
    control.detail = where + " flipped in a copy of run 0: " +
                     (at_its_place ? "found"
                      : found      ? "found in another place"
                                   : "not found");
    report_.controls.push_back(std::move(control));
  }

  void CompareRun(int input, int run, const Trace& trace) {
    ++comparisons_;
    std::optional<Divergence> divergence;
    bool differs = false;
    if (report_.first_divergence) {
      differs = Differs(reference_, trace);
    } else {
      divergence = CompareWith(reference_, trace);
      differs = divergence.has_value();
    }
    std::size_t pattern = 0;
    if (differs) {
      ++deviations_;
      const Digest digest = DigestOf(trace);
      // From 1 on: bytes said that it is not pattern 0, whatever its digest.
      for (pattern = 1; pattern < patterns_.size() && patterns_[pattern].digest != digest; ++pattern) {
      }
      if (pattern == patterns_.size()) patterns_.push_back({digest, 0, run});
    }
    ++patterns_[pattern].runs;
    if (input == 0) {
      report_.patterns = patterns_;
      report_.pattern_of_run.push_back(static_cast<int>(pattern));
    }
    if (!differs) return;
    if (divergence) {
      divergence->run = run;
      divergence->input = input;
      if (divergence->part_index >= 0 && divergence->diff.element >= 0) {
        const auto part = static_cast<std::size_t>(divergence->part_index);
        divergence->note = subject_.ExplainElement(part, divergence->diff.element, reference_.kept[part].view);
      }
      report_.first_divergence = std::move(divergence);
    }
    if (options_.stop_at_first_difference) ended_ = true;
  }

  void Fill() { report_.power = ComputePower(comparisons_, deviations_); }

  void Conclude() {
    Fill();
    const bool flip_found = !report_.controls.empty() && report_.controls.front().as_expected;
    for (const Control& control : options_.controls) RunControl(control);
    report_.outcome = deviations_ > 0 ? Outcome::kNondeterministic : Outcome::kBitExact;
    if (comparisons_ == 0) {
      Inconclusive(budget_ended_ ? "the time budget ended before two runs were made"
                                 : "one run has nothing to be compared with; ask for at least 2");
      return;
    }
    if (!flip_found) {
      Inconclusive("the comparison is broken: " +
                   (report_.controls.empty() ? "it was not checked" : report_.controls.front().detail));
      return;
    }
    for (const ControlResult& control : report_.controls) {
      if (control.as_expected) continue;
      if (report_.outcome == Outcome::kBitExact || !control.expects_difference) {
        Inconclusive(
            "control '" + control.name + "' " +
            (control.expects_difference ? "should have differed and did not" : "should not have differed and did") +
            ": " + control.detail);
        return;
      }
    }
    if (report_.outcome == Outcome::kBitExact && rate_below_ && report_.power.upper_bound > *rate_below_) {
      char text[160];
      std::snprintf(text, sizeof(text),
                    "%d equal comparisons exclude rates above %.3g only, not above the %.3g asked for", comparisons_,
                    report_.power.upper_bound, *rate_below_);
      Inconclusive(std::string(text) + (budget_ended_ ? ": the time budget ended the runs" : ""));
    }
  }

  void RunControl(const Control& control) {
    ControlResult result;
    result.name = control.name;
    result.expects_difference = control.expects_difference;
    try {
      const Report seen = control.run();
      result.outcome = seen.outcome;
      result.runs = seen.runs;
      result.deviations = seen.power.deviations;
      result.as_expected =
          seen.outcome == (control.expects_difference ? Outcome::kNondeterministic : Outcome::kBitExact);
      result.detail = std::to_string(seen.power.deviations) + " of " + std::to_string(seen.power.comparisons) +
                      " comparisons differ" + (seen.reason.empty() ? "" : "; " + seen.reason);
    } catch (...) {
      result.outcome = Outcome::kError;
      result.detail = "it threw: " + WhatOf(std::current_exception());
    }
    report_.controls.push_back(std::move(result));
  }

  void Inconclusive(std::string reason) {
    report_.outcome = Outcome::kInconclusive;
    report_.reason = std::move(reason);
  }

  Subject& subject_;
  const Options& options_;
  Report report_;
  Reference reference_;
  std::vector<Pattern> patterns_;  // of the current input
  std::vector<std::shared_ptr<Perturbation>> perturbations_;
  std::optional<double> rate_below_;
  std::optional<std::chrono::duration<double>> budget_;
  Clock::time_point begin_;
  int runs_ = 0;
  int completed_ = 0;  // runs of the current input
  int comparisons_ = 0;
  int deviations_ = 0;
  bool ended_ = false;
  bool budget_ended_ = false;
};

}  // namespace

Report RunSubject(Subject& subject, const Options& options) { return Runner(subject, options).Run(); }

void SetInterruptionProbe(const InterruptionProbe& probe) { Probe() = probe; }

}  // namespace gtest_determinism::internal
