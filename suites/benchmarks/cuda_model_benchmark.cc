// A whole model on a CUDA device: the 8B shape with random weights, by variant:
//   generation_cuda/prefill/awq_marlin/prompt:3790
//   generation_cuda/decode/awq_marlin/prompt:3790     one step, mean of --steps
//
// Variants take turns in each round: a round is one generation of each. Beside the
// time: the floor (of a decode step the bytes of weights, head and KV cache that it
// reads, of a prefill the operations of its matmuls and of causal attention), and
// the bit patterns of the logits over all rounds.
#include <ATen/Context.h>
#include <benchmark/benchmark.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest_determinism/digest.h"
#include "suites/benchmarks/cuda_benchmarks.h"
#include "suites/benchmarks/cuda_registration.h"
#include "suites/benchmarks/cuda_timing.h"
#include "suites/benchmarks/deterministic_switch.h"
#include "suites/device/device_layers.h"
#include "suites/model/qwen3.h"
#include "suites/model/random_checkpoint.h"

namespace quant_suites {
namespace {

constexpr const char* kShape = "qwen3-8b";

struct Variant {
  std::string name, format, compute, family, provider;
  bool ordered = false;  // under PyTorch's deterministic switch
  bool batch_invariant = false;
};

std::vector<Variant> AllVariants(const Selection& selection) {
  std::vector<Variant> variants = {{"awq_marlin", "awq", "fp16", "marlin", "builtin"},
                                   {"awq", "awq", "fp16", "awq", "builtin"},
                                   {"gptq_marlin", "gptq", "fp16", "marlin", "builtin"},
                                   {"gptq", "gptq", "fp16", "gptq", "builtin"},
                                   {"gptq_ordered", "gptq", "fp16", "gptq", "builtin", true},
                                   {"awq_marlin_invariant", "awq", "fp16", "marlin", "builtin", false, true},
                                   {"pytorch_int4", "torchao", "bf16", "tinygemm", "auto"}};
  if (ForeignKernelsWanted(selection, selection.variants)) {
    variants.push_back({"vllm_awq_marlin", "awq", "fp16", "marlin", "vllm"});
    variants.push_back({"vllm_awq", "awq", "fp16", "awq", "vllm"});
    variants.push_back({"vllm_gptq", "gptq", "fp16", "gptq", "vllm"});
  }
  return variants;
}

// Of the first `count` rows, on the host.
std::string DigestOf(const suites::LogitRows& rows, std::int64_t count) {
  return gtest_determinism::ToHex(
      gtest_determinism::TreeDigest(rows.RowAddress(0), static_cast<std::size_t>(count) * rows.row_bytes()));
}

std::unique_ptr<suites::Qwen3Engine> LoadEngine(const Variant& variant, const suites::Checkpoint& checkpoint,
                                                const Selection& selection) {
  suites::Qwen3Options options;
  options.compute = variant.compute;
  options.kernel = {variant.family, variant.provider, "cuda"};
  options.kernel.batch_invariant = variant.batch_invariant;
  options.max_model_len = selection.prompt + selection.steps + 1;
  return suites::Qwen3Engine::Load(checkpoint, options);
}

std::vector<std::int64_t> PromptFor(const suites::Qwen3Engine& engine, std::int64_t length) {
  std::vector<std::int64_t> prompt;
  for (std::int64_t i = 0; i < length; ++i) prompt.push_back((i * 7919 + 11) % engine.vocab_size());
  return prompt;
}

struct Entrant {
  Variant variant;
  std::unique_ptr<suites::Qwen3Engine> engine;
  std::string error;
  std::set<std::string> prefill_patterns, patterns;  // of the logits of the first token, and of all
  std::vector<double> prefill_us, decode_us;         // the first round, which is dropped, with them
};

class Models {
 public:
  Models(const Selection& selection, ComparisonTable* table) : selection_(selection), table_(table) {}

  void Want(const Variant& variant) {
    for (const Entrant& entrant : entrants_) {
      if (entrant.variant.name == variant.name) return;
    }
    entrants_.push_back({variant, nullptr, "", {}, {}, {}, {}});
  }
  const ComparisonRow& RowFor(bool decode) {
    if (!measured_) {
      measured_ = true;
      Measure();
    }
    for (const ComparisonRow& row : table_->rows) {
      if (row.name == (decode ? "decode" : "prefill")) return row;
    }
    throw std::runtime_error("the measurement of the models failed");
  }

 private:
  void Measure() {
    OpenDevice(selection_);
    table_->device = DeviceName();
    table_->ceilings = DeviceCeilings();
    table_->rounds = selection_.rounds;
    const suites::ModelConfig config = suites::ConfigOfShape(kShape);
    std::map<std::string, std::unique_ptr<suites::RandomCheckpoint>> checkpoints;
    for (Entrant& entrant : entrants_) {
      try {
        auto& checkpoint = checkpoints[entrant.variant.format];
        if (checkpoint == nullptr) {
          checkpoint = std::make_unique<suites::RandomCheckpoint>(config, entrant.variant.format);
        }
        entrant.engine = LoadEngine(entrant.variant, *checkpoint, selection_);
        Generate(entrant);  // captures the graph
        entrant.prefill_patterns.clear();
        entrant.patterns.clear();
        entrant.prefill_us.clear();
        entrant.decode_us.clear();
      } catch (const std::exception& error) {
        entrant.error = FirstLine(error);
        entrant.engine.reset();
      }
    }
    std::vector<Contender> contenders;
    for (Entrant& entrant : entrants_) {
      if (entrant.engine == nullptr) continue;
      contenders.push_back({[this, &entrant] { Generate(entrant); }, [] { return 0.0; }});
    }
    MeasureInterleaved(contenders, selection_.rounds, [] {});
    ComparisonRow prefill = PrefillRow(config), decode = DecodeRow(config);
    for (Entrant& entrant : entrants_) {
      for (const bool of_decode : {false, true}) {
        std::vector<double> us = of_decode ? entrant.decode_us : entrant.prefill_us;
        if (!us.empty()) us.erase(us.begin());
        ComparisonCell cell;
        cell.provider = entrant.variant.name;
        cell.us = us;
        cell.runs = static_cast<int>(entrant.decode_us.size());
        cell.patterns = static_cast<int>((of_decode ? entrant.patterns : entrant.prefill_patterns).size());
        cell.error = entrant.error;
        (of_decode ? decode : prefill).cells.push_back(cell);
      }
      entrant.engine.reset();
    }
    for (const ComparisonRow& row : {prefill, decode}) {
      table_->rows.push_back(row);
      WriteRowLine(std::cerr, row);
    }
    c10::cuda::CUDACachingAllocator::emptyCache();
  }

  void Generate(Entrant& entrant) const {
    const std::vector<std::int64_t> prompt = PromptFor(*entrant.engine, selection_.prompt);
    const DeterministicSwitch deterministic(entrant.variant.ordered);
    const suites::Generation generation = entrant.engine->Generate(prompt, {.max_tokens = selection_.steps + 1});
    const suites::LogitRows logits = generation.step_logits.OnHost();
    entrant.prefill_patterns.insert(DigestOf(logits, 1));
    entrant.patterns.insert(DigestOf(logits, logits.rows));
    entrant.prefill_us.push_back(1e6 * generation.prefill_seconds);
    entrant.decode_us.push_back(1e6 * generation.decode_seconds / selection_.steps);
  }

  struct Sizes {
    double weight_bytes = 0;     // of all INT4 layers
    double multiplications = 0;  // of a row through them
    double head_bytes = 0;
    double attention_width = 0;
    double cache_bytes = 0;  // of a position
  };
  static Sizes SizesOf(const suites::ModelConfig& c) {
    Sizes sizes;
    const std::int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
    const std::int64_t layers[][2] = {{c.hidden_size, q + 2 * kv},
                                      {q, c.hidden_size},
                                      {c.hidden_size, 2 * c.intermediate_size},
                                      {c.intermediate_size, c.hidden_size}};
    const auto depth = static_cast<double>(c.num_hidden_layers);
    for (const auto& [k, n] : layers) {
      sizes.weight_bytes += depth * suites::WeightBytes(k, n);
      sizes.multiplications += depth * static_cast<double>(k) * static_cast<double>(n);
    }
    sizes.head_bytes = 2 * static_cast<double>(c.vocab_size) * static_cast<double>(c.hidden_size);
    sizes.attention_width = depth * static_cast<double>(q);
    sizes.cache_bytes = depth * 2 * 2 * static_cast<double>(kv);
    return sizes;
  }
  ComparisonRow PrefillRow(const suites::ModelConfig& config) const {
    const Sizes sizes = SizesOf(config);
    const auto m = static_cast<double>(selection_.prompt);
    ComparisonRow row;
    row.name = "prefill";
    row.milliseconds = true;
    row.rows = selection_.prompt;
    row.bytes = sizes.weight_bytes + sizes.head_bytes + m * sizes.cache_bytes;
    // The head sees one row. Of the scores and of their products with v, half.
    row.flops = 2 * m * sizes.multiplications + 2 * m * m * sizes.attention_width + sizes.head_bytes;
    row.floor_us = FloorMicroseconds(row.bytes, row.flops, table_->ceilings);
    return row;
  }
  ComparisonRow DecodeRow(const suites::ModelConfig& config) const {
    const Sizes sizes = SizesOf(config);
    ComparisonRow row;
    row.name = "decode";
    row.milliseconds = true;
    row.rows = selection_.prompt + selection_.steps / 2;
    const auto context = static_cast<double>(row.rows);
    row.bytes = sizes.weight_bytes + sizes.head_bytes + context * sizes.cache_bytes;
    row.flops = 2 * sizes.multiplications + sizes.head_bytes + 4 * context * sizes.attention_width;
    row.floor_us = FloorMicroseconds(row.bytes, row.flops, table_->ceilings);
    return row;
  }

  const Selection selection_;
  ComparisonTable* const table_;
  std::vector<Entrant> entrants_;
  bool measured_ = false;
};

}  // namespace

void RegisterCudaModels(const Selection& selection, ComparisonTable* table) {
  static std::unique_ptr<Models> models;
  models = std::make_unique<Models>(selection, table);
  for (const Variant& variant : AllVariants(selection)) {
    if (!selection.Wants(variant.name, selection.variants)) continue;
    for (const bool decode : {false, true}) {
      const std::string name = std::string("generation_cuda/") + (decode ? "decode/" : "prefill/") + variant.name +
                               "/prompt:" + std::to_string(selection.prompt);
      if (!FilterTakes(name)) continue;
      models->Want(variant);
      RegisterMeasured(
          name, selection.rounds, benchmark::kMillisecond,
          [decode]() -> const ComparisonRow& { return models->RowFor(decode); }, variant.name);
    }
  }
}

int RunModelsOnce(const Selection& selection) {
  OpenDevice(selection);
  const suites::ModelConfig config = suites::ConfigOfShape(kShape);
  const int middle = static_cast<int>(config.num_hidden_layers / 2);
  int operations = 0;
  for (const Variant& variant : AllVariants(selection)) {
    if (!selection.Wants(variant.name, selection.variants)) continue;
    const suites::RandomCheckpoint checkpoint(config, variant.format);
    const std::unique_ptr<suites::Qwen3Engine> engine = LoadEngine(variant, checkpoint, selection);
    const std::vector<std::int64_t> prompt = PromptFor(*engine, selection.prompt);
    const DeterministicSwitch deterministic(variant.ordered);
    engine->Generate(prompt, {.max_tokens = 2});  // libraries and kernels are loaded now
    bool open = false;
    const auto end = [&open] {
      if (!open) return;
      nvtxRangePop();
      C10_CUDA_CHECK(cudaDeviceSynchronize());
      C10_CUDA_CHECK(cudaProfilerStop());
      open = false;
    };
    engine->SetReplaySink([&](const suites::OpSite& site, const auto&, const auto*, const at::Tensor&) {
      end();
      if (site.step > 1 || (site.layer != middle && !(site.layer < 0 && site.step == 1))) return;
      const std::string range = (site.step == 0 ? "prefill/" : "decode/") + site.op + "/" + variant.name;
      C10_CUDA_CHECK(cudaDeviceSynchronize());
      C10_CUDA_CHECK(cudaProfilerStart());
      nvtxRangePushA(range.c_str());
      open = true;
      ++operations;
    });
    // A third step, whose first operation ends the last range; what a generation does at
    // its end is no operation of a step.
    engine->Generate(prompt, {.max_tokens = 3});
    end();
  }
  return operations;
}

}  // namespace quant_suites
