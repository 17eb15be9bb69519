#include "suites/int4/run_variant.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "gtest_determinism/perturbations.h"
#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"
#include "kernels/torch_cuda.h"
#include "reporters/cuda/machine_code.h"
#include "reporters/environment.h"
#include "reporters/exclusive_file.h"
#include "reporters/text.h"
#include "suites/checkpoint/progress_line.h"
#include "suites/int4/controls.h"
#include "suites/int4/cuda_device.h"
#include "suites/int4/evidence.h"
#include "suites/int4/logit_dump.h"
#include "suites/int4/op_profile.h"
#include "suites/int4/prompt.h"
#include "suites/model/logit_distance.h"
#include "suites/tokenizer/tokenizer.h"

namespace suites {
namespace {

using Clock = std::chrono::steady_clock;
using gtest_determinism::Outcome;
using reporters::ModeRecord;
using reporters::VariantRecord;

// Adds the time of a scope to one of the record's costs.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(Clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  Clock::time_point start_;
};

// Collects libtorch's warnings, each once, while it lives.
class WarningCollector : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    if (std::find(messages_.begin(), messages_.end(), warning.msg()) == messages_.end())
      messages_.push_back(warning.msg());
  }
  const std::vector<std::string>& messages() const { return messages_; }

 private:
  std::vector<std::string> messages_;
};

// PyTorch's deterministic mode, and the mode that was there before.
class DeterministicMode {
 public:
  DeterministicMode()
      : enabled_(at::globalContext().deterministicAlgorithms()),
        warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  }
  ~DeterministicMode() { at::globalContext().setDeterministicAlgorithms(enabled_, warn_only_); }
  DeterministicMode(const DeterministicMode&) = delete;
  DeterministicMode& operator=(const DeterministicMode&) = delete;

 private:
  bool enabled_, warn_only_;
};

// Generations are eager while this lives, also where one throws.
class EagerPass {
 public:
  explicit EagerPass(Qwen3Engine& engine) : engine_(engine) {
    engine_.SetReplaySink([](auto&&...) {});
  }
  ~EagerPass() { engine_.SetReplaySink({}); }
  EagerPass(const EagerPass&) = delete;
  EagerPass& operator=(const EagerPass&) = delete;

 private:
  Qwen3Engine& engine_;
};

// libtorch appends a backtrace; the first line says it.
std::string FirstLine(const std::string& text) { return reporters::OneLine(text.substr(0, text.find('\n'))); }

// libtorch and RunRepeated() pass a failed allocation on in words of their own.
std::string Message(const std::exception& error) {
  const std::string text = FirstLine(error.what());
  const bool no_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
                         dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                         text.find("bad_alloc") != std::string::npos ||
                         text.find("DefaultCPUAllocator") != std::string::npos;
  return no_memory ? "out of memory (" + text + "); use a shorter --prompt-length or a smaller model" : text;
}

class VariantRun {
 public:
  VariantRun(const Variant& variant, const RunContext& context, VariantResult& result)
      : variant_(variant),
        context_(context),
        options_(context.options),
        record_(result.record),
        problems_(result.problems) {}

  void Run() {
    model_ = LocateModel(variant_, context_.places);
    record_.model = model_.name;
    record_.model_source = model_.source;
    record_.model_path = model_.embedded() ? "models/tiny_qwen3/" + variant_.format : model_.folder.string();
    // Machine code is seen when a module is loaded, at the first launch of its kernels.
    if (options_.device != "cpu" && variant_.format != "openvino") reporters::WatchModules();
    LoadedEngine loaded = Load(Mode::kBaseline, record_.cost.load_seconds);
    record_.device = loaded.device;
    for (auto& value : CudaEnvironment(loaded.device)) record_.environment.values.push_back(std::move(value));
    record_.provider = loaded.provider;
    record_.compute = loaded.compute;
    record_.expected = Expected(loaded);
    record_.prompt_ids = BuildPrompt(options_, model_, context_.default_prompt_file);
    record_.prompt_length = std::ssize(record_.prompt_ids);
    DescribeKernel(loaded);
    SayWhatHadNoEffect(loaded);
    if (options_.force_ids_file) generation_.forced_ids = ReadIds(*options_.force_ids_file);
    generation_.max_tokens = options_.max_tokens;
    CheckLength(*loaded.engine);

    Repeat(loaded, record_.baseline, record_.cost.baseline_seconds, "baseline", first_);
    // The baseline is what hours went into: nothing below may lose it.
    record_.success = true;
    record_.text = Decode(first_.tokens);
    if (options_.dump_logits_dir) {
      Attempt([&] { Dump(*loaded.engine); }, [&](const std::string& why) { problems_.push_back(why); });
    }
    Attempt([&] { Control(loaded.device); },
            [&](const std::string& why) {
              record_.controls = {{.name = reporters::kArrivalOrderControl, .outcome = Outcome::kError, .detail = why}};
            });
    if (record_.baseline.report.outcome == Outcome::kNondeterministic) {
      Attempt([&] { LookForEvidence(loaded); }, [&](const std::string& why) { NotLookedAt("it failed: " + why); });
    }
    Attempt([&] { Profile(loaded); },
            [&](const std::string& why) {
              record_.profile.status = reporters::ProfileStatus::kUnavailable;
              record_.profile.reason = why;
            });

    // The weights of both modes need not fit into memory at once.
    loaded = LoadedEngine();
    RunDeterministicMode();
  }

 private:
  template <class Action, class Failed>
  void Attempt(Action action, Failed failed) {
    try {
      action();
    } catch (const std::exception& error) {
      failed(Message(error));
    }
  }

  // In float32 no INT4 kernel takes part and nothing meets in arrival order; a
  // variant of which nothing is expected stays so.
  std::string Expected(const LoadedEngine& loaded) const {
    if (options_.compute != "fp32" || variant_.format == "openvino")
      return variant_.ExpectedOn(KindOfDevice(loaded.device), loaded.provider);
    return variant_.expected.empty() ? "" : "bit_exact";
  }

  // Whose kernel it is, and which of its ways the prompt and a decode step take.
  void DescribeKernel(const LoadedEngine& loaded) {
    if (loaded.op_library) {
      record_.op_libraries = {
          {loaded.op_library->path.filename().string(), loaded.op_library->bytes, loaded.op_library->digest}};
    }
    if (!loaded.path_for) return;
    for (const std::int64_t rows : {record_.prompt_length, std::int64_t{1}}) {
      if (const std::string path = loaded.path_for(rows); !path.empty()) record_.kernel_paths.emplace_back(rows, path);
    }
  }

  // A flag that does not reach a variant looks like one that did, unless it is said.
  void SayWhatHadNoEffect(const LoadedEngine& loaded) {
    const std::string here = " has no effect on this variant: ";
    const bool foreign = options_.provider == "vllm" || !options_.op_libraries.empty();
    if (foreign && loaded.provider != "vllm") {
      record_.remarks.push_back((options_.provider == "vllm" ? "--provider vllm" : "--op-library") + here +
                                "its kernels are those of " + loaded.provider);
    }
    if (options_.batch_invariant && (loaded.qwen3 == nullptr || loaded.qwen3->kernel() == nullptr)) {
      record_.remarks.push_back("--batch-invariant" + here + "no INT4 kernel of this project runs");
    }
    if (loaded.device != "cpu") return;
    if (KindOfDevice(options_.device) == "cuda") {
      record_.remarks.push_back("--device " + options_.device + here + "it runs on the CPU in its own runtime");
    }
    if (options_.eager) record_.remarks.push_back("--eager" + here + "it runs on the CPU");
    if (options_.attention != "default") record_.remarks.push_back("--attention" + here + "it runs on the CPU");
  }

  void Say(const std::string& phase, int done = 0, int of = 0) const {
    if (context_.progress) context_.progress(phase, done, of);
  }

  LoadedEngine Load(Mode mode, double& seconds) {
    Say("loading");
    const Stopwatch stopwatch(seconds);
    return context_.load_engine(variant_, model_, options_, mode, SayHowFar());
  }

  // At most ten times a second: a checkpoint has hundreds of tensors.
  LoadProgress SayHowFar() const {
    const Clock::time_point start = Clock::now();
    return [this, start, last = Clock::time_point()](std::uint64_t done, std::uint64_t total) mutable {
      const Clock::time_point now = Clock::now();
      if (now - last < std::chrono::milliseconds(100)) return;
      last = now;
      Say("loading " + ProgressText(done, total, std::chrono::duration<double>(now - start).count()));
    };
  }

  void CheckLength(const InferenceEngine& engine) const {
    const std::int64_t needed = record_.prompt_length + options_.max_tokens;
    const std::int64_t limit = std::min(options_.max_model_len, engine.max_positions());
    if (needed > limit) {
      throw VariantError(
          "prompt of " + std::to_string(record_.prompt_length) + " tokens and " + std::to_string(options_.max_tokens) +
          " new ones are more than the " + std::to_string(limit) +
          " that --max-model-len and the model allow; use a shorter --prompt-length or fewer --max-tokens");
    }
  }

  // Warm-ups, then the compared repetitions of one mode. Repetition 0 stays in `first`.
  void Repeat(const LoadedEngine& loaded, ModeRecord& mode, double& seconds, const std::string& phase,
              Generation& first) {
    mode.attempted = true;
    if (loaded.openvino != nullptr) mode.settings = loaded.openvino->Settings();
    {
      const Stopwatch stopwatch(record_.cost.warmup_seconds);
      for (int i = 0; i < options_.warmups; ++i) {
        Say(phase + " warm-up", i, options_.warmups);
        loaded.engine->Generate(record_.prompt_ids, generation_);
      }
    }
    const Stopwatch stopwatch(seconds);
    gtest_determinism::Options repeat;
    repeat.runs = options_.repetitions;
    repeat.seed = options_.seed;
    // Freed memory, of the host and of the GPU, holds other bytes in each run, so
    // that a read of what was never written shows. Competing load is left out: it would stretch every
    // run, and the control shows that the order of arrival is seen without.
    repeat.perturbations.emplace();
    if (options_.perturb) repeat.perturbations->push_back(gtest_determinism::AllocatorPoison());
    if (options_.perturb && KindOfDevice(loaded.device) == "cuda") {
      repeat.perturbations->push_back(gtest_determinism::TorchWorkspacePoison(kernels::CudaDeviceIndex(loaded.device)));
    }
    repeat.on_run = [&](int run, int runs) { Say(phase, run, runs); };
    mode.report = gtest_determinism::RunRepeated(
        [&] {
          Generation generation = loaded.engine->Generate(record_.prompt_ids, generation_);
          mode.seconds.push_back(generation.prefill_seconds + generation.decode_seconds);
          mode.tokens.push_back(generation.tokens);
          mode.logprobs.push_back(generation.logprobs);
          if (mode.tokens.size() == 1) {
            mode.top10 = generation.top10;
            first = generation;
          } else {
            mode.logits_l2.push_back(LogitDistance(first.step_logits, generation.step_logits));
          }
          return generation;
        },
        repeat);
    if (mode.report.outcome == Outcome::kError) throw std::runtime_error(mode.report.reason);
    mode.succeeded = true;
  }

  std::string Decode(const std::vector<std::int64_t>& ids) const {
    // With --prompt-ids a folder without a tokenizer serves too; it has no text.
    try {
      return Tokenizer::Open(model_.folder).Decode(ids);
    } catch (const std::exception&) {
      return "";
    }
  }

  void Dump(InferenceEngine& engine) {
    Say("logits");
    GenerationOptions with_prompt = generation_;
    with_prompt.all_prompt_logits = true;
    DumpLogits(*options_.dump_logits_dir / (variant_.id + ".safetensors"),
               engine.Generate(record_.prompt_ids, with_prompt));
  }

  void Control(const std::string& device) {
    Say("control");
    const Stopwatch stopwatch(record_.cost.control_seconds);
    record_.controls =
        RunControls(ReadModelSizes(model_.folder), first_,
                    {.rows = std::min<std::int64_t>(record_.prompt_length, KindOfDevice(device) == "cuda" ? 16 : 64),
                     .runs = std::max(2, options_.repetitions),
                     .seed = options_.seed,
                     .device = device});
  }

  // A pass of its own: the repetitions that decide are not profiled.
  void Profile(LoadedEngine& loaded) {
    Say("profile");
    const Stopwatch stopwatch(record_.cost.profile_seconds);
    // Prefill and each decode step are a pass; a prefill in chunks is several. A
    // foreign kernel may leave its operator for another one where the rows are many.
    std::string expected = loaded.expected_kernel;
    std::int64_t passes = options_.max_tokens;
    if (loaded.operator_for && loaded.operator_for(record_.prompt_length) != expected) {
      if (passes > 1) {
        --passes;
      } else {
        expected = loaded.operator_for(record_.prompt_length);
      }
    }
    record_.profile.expected_kernel = expected;
    if (loaded.openvino != nullptr) {
      // Profiling is a property of the compiled model: another compilation of
      // the same IR, the first one freed.
      loaded = LoadedEngine();
      const LoadedEngine profiled = context_.load_engine(variant_, model_, options_, Mode::kProfile, {});
      profiled.engine->Generate(record_.prompt_ids, generation_);
      record_.profile = profiled.openvino->TakeProfile();
      record_.profile.expected_at_least = options_.max_tokens;
      return;
    }
    if (KindOfDevice(loaded.device) == "cuda") {
      CudaOpProfiler profiler;
      // Eager, so that each kernel is seen with the operator that launches it.
      GenerationOptions few = generation_;
      few.max_tokens = std::min(few.max_tokens, 2);
      {
        const EagerPass eager(*loaded.qwen3);
        loaded.engine->Generate(record_.prompt_ids, few);
      }
      profiler.Learn();
      loaded.engine->Generate(record_.prompt_ids, generation_);
      record_.profile = profiler.Take(expected, loaded.device_functions);
    } else {
      OpProfiler profiler;
      loaded.engine->Generate(record_.prompt_ids, generation_);
      record_.profile = profiler.Take(expected);
    }
    record_.profile.expected_at_least = loaded.matmuls_per_pass * passes;
  }

  void LookForEvidence(const LoadedEngine& loaded) {
    Say("evidence");
    const Stopwatch stopwatch(record_.cost.evidence_seconds);
    if (loaded.qwen3 == nullptr) return NotLookedAt("the runtime does not show its operations' outputs");
    record_.evidence =
        CollectEvidence(*loaded.qwen3, *OpenCheckpoint(model_.folder), record_.prompt_ids, generation_, {});
  }

  void NotLookedAt(const std::string& why) {
    reporters::EvidenceRecord& evidence = record_.evidence;
    evidence = {};
    for (reporters::Evidence* entry :
         {&evidence.first_operation, &evidence.replay_differs, &evidence.ordered_twin_exact,
          &evidence.within_rounding_bound, &evidence.replay_kernels, &evidence.float_atomics,
          &evidence.switch_on_operation}) {
      entry->detail = why;
    }
  }

  void RunDeterministicMode() {
    ModeRecord& mode = record_.deterministic;
    mode.attempted = true;
    WarningCollector warnings;
    try {
      const DeterministicMode deterministic;
      const c10::WarningUtils::WarningHandlerGuard guard(&warnings);
      const LoadedEngine loaded = Load(Mode::kDeterministic, record_.cost.reload_seconds);
      Generation first;
      Repeat(loaded, mode, record_.cost.deterministic_seconds, "deterministic", first);
    } catch (const std::exception& error) {
      mode = ModeRecord();
      mode.attempted = true;
      mode.error = Message(error);
    }
    mode.warnings = warnings.messages();
  }

  const Variant& variant_;
  const RunContext& context_;
  const SuiteOptions& options_;
  VariantRecord& record_;
  std::vector<std::string>& problems_;
  LocatedModel model_;
  GenerationOptions generation_;
  Generation first_;  // repetition 0 of the baseline
};

}  // namespace

VariantResult RunVariant(const Variant& variant, const RunContext& context) {
  VariantResult result;
  VariantRecord& record = result.record;
  record.variant = variant.id;
  record.model = record.table_model = variant.model_name;
  record.quantization = variant.quantization;
  record.description = variant.description;
  record.note = variant.note;
  record.kernel = variant.kernel;
  record.started_at = reporters::IsoTimeNow();
  record.config.max_model_len = context.options.max_model_len;
  record.config.max_tokens = context.options.max_tokens;
  record.config.repetitions = context.options.repetitions;
  record.config.seed = context.options.seed;
  record.environment = reporters::CollectEnvironment(context.argv);
  auto& values = record.environment.values;
  values.emplace_back("torch", TORCH_VERSION);
  values.emplace_back("torch_cpu_capability", at::get_cpu_capability());
  values.emplace_back("torch_threads", std::to_string(at::get_num_threads()));
  values.emplace_back("openvino", OpenVinoEngine::RuntimeVersion());
  {
    const Stopwatch stopwatch(record.cost.total_seconds);
    try {
      VariantRun(variant, context, result).Run();
    } catch (const std::exception& error) {
      record.success = false;
      record.error = Message(error);
    }
  }
  return result;
}

}  // namespace suites
