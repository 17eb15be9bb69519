#include "suites/int4/engine_loader.h"

#include "kernels/providers/vllm.h"
#include "kernels/torch_cuda.h"
#include "suites/checkpoint/read_ahead.h"
#include "suites/int4/cuda_device.h"

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

LoadedEngine LoadOpenVino(const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode) {
  if (options.compute == "fp16" || options.compute == "bf16") {
    throw VariantError("--compute " + options.compute +
                       ": the openvino runtime chooses its own precision; use auto or fp32");
  }
  OpenVinoOptions settings;
  settings.deterministic = mode == Mode::kDeterministic;
  settings.exact_f32 = options.compute == "fp32";
  settings.threads = options.threads > 0 ? options.threads : variant.settings.threads;
  settings.streams = variant.settings.streams;
  settings.inference_precision = variant.settings.inference_precision;
  settings.kv_cache_precision = variant.settings.kv_cache_precision;
  settings.profile = mode == Mode::kProfile;
  LoadedEngine loaded;
  const ReadAhead ahead(model.folder);
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

// Opens what --op-library names, or what is found, for a provider that may need it.
void OpenProvider(const SuiteOptions& options, const std::string& device) {
  if (KindOfDevice(device) != "cuda") {
    const std::string why = kernels::TorchCuda().devices > 0 ? "--device " + device : kernels::TorchCuda().reason;
    if (options.provider == "vllm") {
      throw VariantError("--provider vllm: its kernels need a GPU (" + why + "); use --provider builtin");
    }
    if (!options.op_libraries.empty()) {
      throw VariantError("--op-library: the foreign kernels of the variants need a GPU (" + why + "); leave it out");
    }
    return;
  }
  if (options.provider == "builtin") {
    if (!options.op_libraries.empty()) {
      throw VariantError("--op-library and --provider builtin contradict each other; give one");
    }
    return;
  }
  kernels::OpenOpLibraries(options.op_libraries);
}

LoadedEngine LoadQwen3(const Variant& variant, const LocatedModel& model, const SuiteOptions& options,
                       const LoadProgress& progress) {
  const std::string device = ResolveDevice(options.device);
  const bool on_gpu = KindOfDevice(device) == "cuda";
  // tinygemm is part of libtorch; there is no other provider to choose.
  const bool has_providers = variant.kernel != "tinygemm" && options.compute != "fp32";
  if (has_providers) {
    OpenProvider(options, device);
    if (options.provider == "vllm") {
      const std::string why = kernels::WhyNoVllm(variant.kernel);
      if (!why.empty()) throw VariantError("--provider vllm: " + why);
    }
  }
  const std::unique_ptr<Checkpoint> checkpoint = OpenCheckpoint(model.folder);
  Qwen3Options settings;
  settings.compute = ComputeType(variant, options);
  settings.max_model_len = options.max_model_len;
  settings.eager = options.eager;
  settings.attention = options.attention;
  settings.kernel.family = variant.kernel;
  settings.kernel.provider = has_providers ? options.provider : "auto";
  settings.kernel.device = device;
  settings.kernel.batch_invariant = options.batch_invariant;
  if (on_gpu) {
    // Kept are the logits of repetition 0 and of the current one, and copies of controls.
    CheckCudaMemory(EstimateDeviceBytes(checkpoint->config(), settings, 4 * options.max_tokens),
                    options.gpu_memory_utilization, MemoryOfCudaDevice(kernels::CudaDeviceIndex(device)), device);
  }
  LoadedEngine loaded;
  loaded.device = device;
  checkpoint->SetProgress(progress);
  // An upload to a GPU reads with threads of its own.
  std::optional<ReadAhead> ahead;
  if (!on_gpu) ahead.emplace(model.folder);
  auto engine = Qwen3Engine::Load(*checkpoint, settings);
  loaded.qwen3 = engine.get();
  loaded.engine = std::move(engine);
  loaded.compute = settings.compute;
  if (const kernels::KernelIdentity* kernel = loaded.qwen3->kernel()) {
    loaded.matmuls_per_pass = CountMatmuls(*loaded.qwen3, checkpoint->config());
    loaded.provider = kernel->provider;
    loaded.expected_kernel = kernel->op;
    loaded.device_functions = kernel->device_functions;
    loaded.op_library = kernels::LibraryOfOperator(kernel->op);
    for (const char* op : {"qkv_proj", "q_proj", "o_proj"}) {
      if (const kernels::Int4Matmul* matmul = loaded.qwen3->MatmulOf(0, op); matmul != nullptr) {
        loaded.path_for = [matmul](std::int64_t rows) { return matmul->PathFor(rows); };
        loaded.operator_for = [matmul](std::int64_t rows) { return matmul->OperatorFor(rows); };
        break;
      }
    }
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

LoadedEngine LoadEngine(const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode,
                        const LoadProgress& progress) {
  // The openvino runtime stays on its own device, wherever the others run; that
  // there is a device of that name is checked all the same.
  if (variant.format != "openvino") return LoadQwen3(variant, model, options, progress);
  if (options.device != "auto") ResolveDevice(options.device);
  LoadedEngine loaded = LoadOpenVino(variant, model, options, mode);
  loaded.device = "cpu";
  return loaded;
}

}  // namespace suites
