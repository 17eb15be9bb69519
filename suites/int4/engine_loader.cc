#include "suites/int4/engine_loader.h"

#include "suites/checkpoint/checkpoint.h"

namespace suites {
namespace {

// The operator that a float32 run must show: no INT4 kernel takes part in it.
constexpr char kFloatMatmul[] = "qwen3::linear";

std::int64_t CountMatmuls(const Qwen3Engine& engine, const ModelConfig& config) {
  std::int64_t count = 0;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (const char* op :
         {"qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj", "up_proj", "down_proj"}) {
      count += engine.MatmulOf(static_cast<int>(layer), op) != nullptr ? 1 : 0;
    }
  }
  return count;
}

LoadedEngine LoadOpenVino(const LocatedModel& model, const SuiteOptions& options, Mode mode) {
  if (options.compute == "fp16" || options.compute == "bf16") {
    throw VariantError("--compute " + options.compute +
                       ": the openvino runtime chooses its own precision; use auto or fp32");
  }
  OpenVinoOptions settings;
  settings.deterministic = mode == Mode::kDeterministic;
  settings.exact_f32 = options.compute == "fp32";
  settings.threads = options.threads;
  settings.profile = mode == Mode::kProfile;
  LoadedEngine loaded;
  auto engine = OpenVinoEngine::Load(model.folder, settings);
  loaded.openvino = engine.get();
  loaded.engine = std::move(engine);
  loaded.provider = "openvino";
  loaded.compute = settings.exact_f32 || settings.deterministic ? "fp32" : "auto";
  for (const auto& [name, value] : loaded.openvino->Settings()) {
    if (name == "INFERENCE_PRECISION_HINT") loaded.compute = value;
  }
  return loaded;
}

LoadedEngine LoadQwen3(const Variant& variant, const LocatedModel& model, const SuiteOptions& options) {
  const std::unique_ptr<Checkpoint> checkpoint = OpenCheckpoint(model.folder);
  Qwen3Options settings;
  settings.compute = ComputeType(variant, options);
  settings.max_model_len = options.max_model_len;
  settings.kernel.family = variant.kernel;
  // tinygemm is part of libtorch; there is no other provider to choose.
  settings.kernel.provider = variant.kernel == "tinygemm" ? "auto" : options.provider;
  settings.kernel.device = "cpu";
  LoadedEngine loaded;
  auto engine = Qwen3Engine::Load(*checkpoint, settings);
  loaded.qwen3 = engine.get();
  loaded.engine = std::move(engine);
  loaded.compute = settings.compute;
  if (loaded.qwen3->kernel() != nullptr) loaded.matmuls_per_pass = CountMatmuls(*loaded.qwen3, checkpoint->config());
  if (const kernels::KernelIdentity* kernel = loaded.qwen3->kernel()) {
    loaded.provider = kernel->provider;
    loaded.expected_kernel = kernel->op;
  } else {
    loaded.provider = "aten";
    loaded.expected_kernel = kFloatMatmul;
  }
  return loaded;
}

}  // namespace

std::string ComputeType(const Variant& variant, const SuiteOptions& options) {
  if (options.compute != "auto") return options.compute;
  return variant.kernel == "tinygemm" ? "bf16" : "fp16";
}

LoadedEngine LoadEngine(const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode) {
  if (options.device != "auto" && options.device != "cpu") {
    throw VariantError("--device " + options.device + ": this build has no GPU kernels; use --device cpu");
  }
  if (options.provider == "vllm") {
    throw VariantError(
        "--provider vllm: its kernels need a GPU, and this build has no GPU support; use --provider builtin");
  }
  if (!options.op_libraries.empty()) {
    throw VariantError("--op-library: foreign kernels need a GPU, and this build has no GPU support; leave it out");
  }
  LoadedEngine loaded =
      variant.format == "openvino" ? LoadOpenVino(model, options, mode) : LoadQwen3(variant, model, options);
  loaded.device = "cpu";
  return loaded;
}

}  // namespace suites
