// From a variant and its model to an engine that is ready to run.
#ifndef SUITES_INT4_ENGINE_LOADER_H_
#define SUITES_INT4_ENGINE_LOADER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/providers/op_library.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/int4/command_line.h"
#include "suites/int4/model_locator.h"
#include "suites/int4/variant.h"
#include "suites/model/generation.h"
#include "suites/model/qwen3.h"
#include "suites/openvino/openvino_engine.h"

namespace suites {

struct LoadedEngine {
  std::unique_ptr<InferenceEngine> engine;
  Qwen3Engine* qwen3 = nullptr;        // the same, where it is one
  OpenVinoEngine* openvino = nullptr;  // the same, where it is one
  std::string device;                  // "cpu", "cuda:N"
  std::string provider;                // "builtin", "aten", "vllm", "openvino"
  std::string compute;                 // "fp16", "bf16", "fp32"; openvino: "f32" or what its runtime reports
  std::string expected_kernel;         // the operator that the profile must show
  // INT4 matmuls of one forward pass: each pass must show as many.
  std::int64_t matmuls_per_pass = 1;
  // Parts of the names of the device functions that multiply.
  std::vector<std::string> device_functions;
  // The op library that the kernel comes from, where it is a foreign one.
  std::optional<kernels::OpLibrary> op_library;
  // What the first INT4 matmul runs for so many rows, in words ("" where it has one
  // way), and the operator that a profile shows for it. Empty without INT4 matmuls.
  std::function<std::string(std::int64_t rows)> path_for, operator_for;
};

enum class Mode { kBaseline, kDeterministic, kProfile };

// The weight files are read ahead with several threads. `progress` is told how far the loading is;
// openvino's runtime reads its files itself and says nothing. Throws CheckpointError, VariantError,
// std::invalid_argument, std::bad_alloc.
LoadedEngine LoadEngine(const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode,
                        const LoadProgress& progress = {});

// What `--compute auto` stands for: bf16 for tinygemm, else fp16.
std::string ComputeType(const Variant& variant, const SuiteOptions& options);

}  // namespace suites

#endif  // SUITES_INT4_ENGINE_LOADER_H_
