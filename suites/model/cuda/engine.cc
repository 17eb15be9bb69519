#include "suites/model/cuda/engine.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/torch_cuda.h"
#include "suites/checkpoint/device_upload.h"
#include "suites/checkpoint/tensor_table.h"
#include "suites/model/cuda/attention_plan.h"
#include "suites/model/projection.h"

namespace suites::internal {
namespace {

// At most these many operations in a decode step, whatever is not concatenated.
std::int64_t MostStepOperations(const ModelConfig& config) { return 32 * config.num_hidden_layers + 8; }

constexpr std::int64_t kPromptLogitRows = 256;  // computed at a time where all are asked for
constexpr std::size_t kMaxGraphs = 8;

at::Device DeviceOf(const Qwen3Options& options) {
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(kernels::CudaDeviceIndex(options.kernel.device)));
}

at::Tensor OnDevice(const std::vector<float>& values, const at::Device& device) {
  return at::from_blob(const_cast<float*>(values.data()), {static_cast<std::int64_t>(values.size())},
                       at::TensorOptions().dtype(at::kFloat))
      .to(device);
}

// Logits that share the memory of a tensor on the device.
LogitRows Rows(const at::Tensor& tensor, gtest_determinism::DType dtype) {
  LogitRows rows;
  rows.dtype = dtype;
  rows.rows = tensor.size(0);
  rows.vocab = tensor.size(1);
  rows.space = &gtest_determinism::CudaMemory(tensor.device().index());
  rows.storage = std::shared_ptr<void>(std::make_shared<at::Tensor>(tensor), tensor.mutable_data_ptr());
  return rows;
}

void CopyToDevice(const at::Tensor& to, const void* from, std::size_t bytes, cudaStream_t stream) {
  CheckCudaCall(cudaMemcpyAsync(to.mutable_data_ptr(), from, bytes, cudaMemcpyHostToDevice, stream),
                "copy to the device");
}
void CopyToHost(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  CheckCudaCall(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copy from the device");
  CheckCudaCall(cudaStreamSynchronize(stream), "copy from the device");
}

void Require(bool condition, const Checkpoint& checkpoint, const std::string& what) {
  if (!condition) throw CheckpointError(checkpoint.folder().string() + "/config.json: on a GPU " + what);
}

}  // namespace

CudaEngine::CudaEngine(const Checkpoint& checkpoint, const Qwen3Options& options)
    : config_(checkpoint.config()),
      precision_(ParsePrecision(options.compute)),
      max_positions_(std::min(config_.max_position_embeddings, options.max_model_len)),
      prefill_chunk_(options.prefill_chunk),
      kernel_(options.kernel),
      attention_(ParseAttention(options.attention)),
      eager_(options.eager || attention_ != AttentionBackend::kDefault),
      device_(DeviceOf(options)),
      padded_head_dim_(PaddedHeadDim(static_cast<int>(config_.head_dim))),
      own_stream_((c10::cuda::CUDAGuard(device_), c10::cuda::getStreamFromPool(false, device_.index()))) {
  Require(config_.hidden_size % 8 == 0 && config_.hidden_size <= kMaxNormWidth, checkpoint,
          "hidden_size must be a multiple of 8 up to " + std::to_string(kMaxNormWidth));
  Require(config_.intermediate_size % 8 == 0, checkpoint, "intermediate_size must be a multiple of 8");
  Require(config_.head_dim % 8 == 0 && padded_head_dim_ != 0, checkpoint, "head_dim must be a multiple of 8 up to 128");
  const bool packed = UsesInt4Kernels(checkpoint, options, precision_);
  // float32 means float32.
  if (precision_ == Precision::kFp32) at::globalContext().setAllowTF32CuBLAS(false);

  const c10::cuda::CUDAStreamGuard guard(own_stream_);
  attends_prompts_ = AttendsPromptsItself(precision_, static_cast<int>(config_.head_dim));
  LoadWeights(checkpoint, packed);

  RopeTable rope(config_, precision_);
  rope.Extend(max_positions_);
  cosine_ = OnDevice(rope.cosine(), device_);
  sine_ = OnDevice(rope.sine(), device_);
  const int heads = static_cast<int>(config_.num_attention_heads);
  state_ = at::zeros({sizeof(DecodeState)}, OptionsOf(at::kByte));
  tokens_ = at::empty({max_positions_ + 1}, OptionsOf(at::kLong));
  forced_ = at::empty({max_positions_ + 1}, OptionsOf(at::kLong));
  token_ = at::zeros({1}, OptionsOf(at::kLong));
  partial_ = at::empty({SampleBlocks(config_.vocab_size)}, OptionsOf(at::kLong));
  arrived_ = at::zeros({heads}, OptionsOf(at::kInt));
  attention_workspace_ = at::empty(
      {static_cast<std::int64_t>(DecodeAttentionWorkspace(
          precision_, max_positions_, heads, static_cast<int>(config_.num_key_value_heads), padded_head_dim_))},
      OptionsOf(at::kByte));
  for (cudaEvent_t* event : {&start_, &prefilled_, &ended_}) CheckCudaCall(cudaEventCreate(event), "cudaEventCreate");
  CheckCudaCall(cudaStreamSynchronize(own_stream_.stream()), "loading the model");
}

void CudaEngine::LoadWeights(const Checkpoint& checkpoint, bool packed) {
  const at::ScalarType dtype = ScalarTypeOf(precision_);
  DeviceUploader uploader(device_);
  // All at once, each in its place.
  const auto upload = [&](const std::vector<at::Tensor*>& tensors) {
    std::vector<at::Tensor> on_host;
    for (const at::Tensor* tensor : tensors) on_host.push_back(*tensor);
    std::vector<at::Tensor> on_device = uploader.Upload(on_host);
    for (std::size_t i = 0; i < tensors.size(); ++i) *tensors[i] = std::move(on_device[i]);
  };
  embedding_ = checkpoint.Dense("model.embed_tokens.weight");
  final_norm_ = checkpoint.Dense("model.norm.weight");
  std::vector<at::Tensor*> outside = {&embedding_, &final_norm_};
  if (!config_.tie_word_embeddings) {
    head_ = checkpoint.Head(dtype);
    outside.push_back(&head_);
  }
  upload(outside);
  for (at::Tensor* tensor : outside) *tensor = tensor->to(dtype);
  if (config_.tie_word_embeddings) head_ = embedding_;

  layers_.reserve(static_cast<std::size_t>(config_.num_hidden_layers));
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    at::Tensor norms[4];
    std::vector<at::Tensor*> tensors;
    std::size_t n = 0;
    for (const char* name : {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"}) {
      norms[n] = checkpoint.Dense(prefix + name + ".weight");
      tensors.push_back(&norms[n++]);
    }
    const std::pair<const char*, std::vector<const char*>> names[] = {
        {"qkv_proj", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
        {"o_proj", {"self_attn.o_proj"}},
        {"gate_up_proj", {"mlp.gate_proj", "mlp.up_proj"}},
        {"down_proj", {"mlp.down_proj"}}};
    std::vector<LinearSource> sources[4];
    for (std::size_t p = 0; p < 4; ++p) {
      for (const char* name : names[p].second) {
        sources[p].push_back(ReadLinear(checkpoint, prefix, name, precision_, packed));
      }
    }
    for (std::vector<LinearSource>& of_one : sources) {
      for (LinearSource& source : of_one) AppendTensors(source, tensors);
    }
    upload(tensors);
    const auto project = [&](std::size_t p) { return CudaProjection(names[p].first, std::move(sources[p]), kernel_); };
    // No generation reads what it has not written, whatever is in the cache.
    const auto cache = [&] {
      return at::empty({config_.num_key_value_heads, max_positions_, padded_head_dim_}, OptionsOf(dtype));
    };
    layers_.push_back({norms[0].to(dtype), norms[1].to(dtype), norms[2].to(dtype), norms[3].to(dtype), project(0),
                       project(1), project(2), project(3), cache(), cache()});
  }
  uploader.Wait();
}

CudaEngine::~CudaEngine() {
  graphs_.clear();
  for (cudaEvent_t event : {start_, prefilled_, ended_}) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

const kernels::Int4Matmul* CudaEngine::MatmulOf(int layer, const std::string& op) const {
  if (layer < 0 || layer >= static_cast<int>(layers_.size())) return nullptr;
  const Layer& the_layer = layers_[static_cast<std::size_t>(layer)];
  for (const CudaProjection* projection : {&the_layer.qkv, &the_layer.o, &the_layer.gate_up, &the_layer.down}) {
    if (const auto* matmul = projection->MatmulOf(op)) return matmul;
  }
  return nullptr;
}

const kernels::KernelIdentity* CudaEngine::kernel() const {
  for (const Layer& layer : layers_) {
    for (const CudaProjection* projection : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      if (const auto* identity = projection->kernel()) return identity;
    }
  }
  return nullptr;
}

void CudaEngine::ReplayAttention(std::vector<std::string> backends) {
  replayed_backends_.clear();
  for (const std::string& name : backends) replayed_backends_.emplace_back("attention." + name, ParseAttention(name));
}

void CudaEngine::FillCache(std::uint8_t byte) {
  const gtest_determinism::MemorySpace& space = gtest_determinism::CudaMemory(device_.index());
  for (const Layer& layer : layers_) {
    for (const at::Tensor& cache : {layer.keys, layer.values}) {
      space.Fill(cache.mutable_data_ptr(), byte, cache.nbytes());
    }
  }
  space.Synchronize();
}

Generation CudaEngine::Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) {
  return Run(prompt_ids, options, nullptr);
}

std::vector<TracedOp> CudaEngine::Trace(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) {
  op_sink_ = nullptr;
  Tracing tracing(device_.index());
  Run(prompt_ids, options, &tracing);
  std::vector<TracedOp> trace;
  const std::vector<gtest_determinism::Digest> digests = tracing.queue.Take();
  for (std::size_t i = 0; i < digests.size(); ++i) trace.push_back({tracing.sites[i], digests[i]});
  trace.insert(trace.end(), tracing.replayed.begin(), tracing.replayed.end());
  return trace;
}

Generation CudaEngine::Run(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options,
                           Tracing* tracing) {
  CheckRequest(prompt_ids, options, config_.vocab_size, max_positions_);
  const auto prompt = static_cast<std::int64_t>(prompt_ids.size());
  const c10::cuda::CUDAGuard device_guard(device_);
  // The default stream cannot be captured.
  const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream(device_.index());
  const c10::cuda::CUDAStream chosen =
      current == c10::cuda::getDefaultCUDAStream(device_.index()) ? own_stream_ : current;
  const c10::cuda::CUDAStreamGuard stream_guard(chosen);
  const cudaStream_t stream = chosen.stream();
  struct TracingGuard {
    Tracing*& pointer;
    ~TracingGuard() { pointer = nullptr; }
  } tracing_guard{tracing_};
  tracing_ = tracing;

  Generation generation;
  const at::Tensor rows = Empty(options.max_tokens, config_.vocab_size);
  generation.step_logits = Rows(rows, DTypeOf(precision_));
  std::vector<std::int64_t> forced(static_cast<std::size_t>(options.max_tokens) + 1, -1);
  std::copy_n(options.forced_ids.begin(), std::min(options.forced_ids.size(), forced.size() - 1), forced.begin());
  CopyToDevice(forced_, forced.data(), forced.size() * sizeof forced[0], stream);
  at::Tensor digests;
  DecodeState begin;
  begin.position = static_cast<std::int32_t>(prompt) - 1;
  begin.rows = rows.mutable_data_ptr();
  if (tracing != nullptr && options.max_tokens > 1) {
    digests = at::empty({(options.max_tokens - 1) * MostStepOperations(config_), 16}, OptionsOf(at::kByte));
    begin.digests = digests.mutable_data_ptr();
  }
  CopyToDevice(state_, &begin, sizeof begin, stream);

  CheckCudaCall(cudaEventRecord(start_, stream), "cudaEventRecord");
  Prefill(prompt_ids, options, stream, generation);
  CheckCudaCall(cudaEventRecord(prefilled_, stream), "cudaEventRecord");
  Decode(options, prompt, stream);
  TellTokens(options, stream, generation);
  if (tracing != nullptr && !tracing->replayed.empty()) {
    std::vector<gtest_determinism::Digest> values(tracing->replayed.size());
    const auto* first = static_cast<const std::byte*>(digests.const_data_ptr()) + tracing->first_replayed * 16;
    CopyToHost(values.data(), first, values.size() * sizeof values[0], stream);
    for (std::size_t i = 0; i < values.size(); ++i) tracing->replayed[i].digest = values[i];
  }
  return generation;
}

void CudaEngine::Prefill(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options,
                         cudaStream_t stream, Generation& generation) {
  const auto prompt = static_cast<std::int64_t>(prompt_ids.size());
  const at::Tensor ids = at::empty({prompt}, OptionsOf(at::kLong));
  CopyToDevice(ids, prompt_ids.data(), ids.nbytes(), stream);
  if (options.all_prompt_logits) {
    generation.prompt_logits = LogitRows::Allocate(DTypeOf(precision_), prompt, config_.vocab_size);
  }
  Pass pass;
  pass.stream = stream;
  at::Tensor hidden;
  const std::int64_t chunk = PrefillRows(config_, prefill_chunk_, precision_);
  for (std::int64_t first = 0; first < prompt; first += chunk) {
    pass.past = first;
    pass.rows = std::min(chunk, prompt - first);
    pass.ids = ids.const_data_ptr<std::int64_t>() + first;
    hidden = Forward(pass);
    if (!options.all_prompt_logits) continue;
    for (std::int64_t row = 0; row < pass.rows; row += kPromptLogitRows) {
      const at::Tensor logits = Head(pass, hidden.narrow(0, row, std::min(kPromptLogitRows, pass.rows - row)));
      CopyToHost(generation.prompt_logits.RowAddress(first + row), logits.const_data_ptr(), logits.nbytes(), stream);
    }
  }
  // Alone, so that it does not depend on whether the others were asked for.
  const at::Tensor logits = Head(pass, hidden.narrow(0, hidden.size(0) - 1, 1));
  if (options.max_tokens > 0) Sample(pass, logits);
}

const DecodeGraph& CudaEngine::GraphFor(const GraphKey& key, const Pass& pass) {
  std::unique_ptr<DecodeGraph>& graph = graphs_[key];
  if (graph != nullptr) return *graph;
  StepRecord record;
  struct RecordingGuard {
    StepRecord*& pointer;
    ~RecordingGuard() { pointer = nullptr; }
  };
  at::Tensor table;
  if (key.traced) {
    LoadStepDigests();
    table =
        at::empty({MostStepOperations(config_) * static_cast<std::int64_t>(sizeof(DigestPiece))}, OptionsOf(at::kByte));
  }
  try {
    graph = std::make_unique<DecodeGraph>(c10::cuda::getCurrentCUDAStream(device_.index()), [&] {
      const RecordingGuard guard{recording_};
      if (key.traced) recording_ = &record;
      Sample(pass, Head(pass, Forward(pass)));
      if (key.traced) {
        if (static_cast<std::int64_t>(record.pieces.size()) > MostStepOperations(config_)) {
          throw std::logic_error("a decode step has more operations than its digests have places");
        }
        LaunchStepDigests(static_cast<const DigestPiece*>(table.const_data_ptr()),
                          static_cast<std::int64_t>(record.pieces.size()), state(), pass.stream);
      }
    });
  } catch (...) {
    graphs_.erase(key);
    throw;
  }
  if (key.traced) {
    CopyToDevice(table, record.pieces.data(), record.pieces.size() * sizeof record.pieces[0], pass.stream);
    CheckCudaCall(cudaStreamSynchronize(pass.stream), "copy to the device");
    graph->digest_table = table;
    graph->step = std::move(record);
  }
  return *graph;
}

void CudaEngine::Decode(const GenerationOptions& options, std::int64_t prompt, cudaStream_t stream) {
  if (options.max_tokens <= 1) return;
  const bool eager = eager_ || op_sink_ || input_sink_ || replay_sink_;
  Pass pass;
  pass.stream = stream;
  pass.rows = 1;
  pass.decode = true;
  pass.ids = tokens_.const_data_ptr<std::int64_t>();
  // Rounded up, so that lengths that are near each other share a graph.
  constexpr std::int64_t kRounding = 256;
  pass.max_length = std::min(max_positions_, (prompt + options.max_tokens + kRounding - 1) / kRounding * kRounding);
  const GraphKey key{pass.max_length, tracing_ != nullptr, at::globalContext().deterministicAlgorithms(), fault_};
  const bool captured = graphs_.contains(key);
  if (!captured && !eager && graphs_.size() >= kMaxGraphs) graphs_.clear();
  for (int step = 1; step < options.max_tokens; ++step) {
    pass.step = step;
    pass.past = prompt + step - 1;
    // The first step before a capture is eager: it loads kernels and makes
    // workspaces, which cannot be done while capturing.
    if (eager || (!captured && step == 1)) {
      Sample(pass, Head(pass, Forward(pass)));
      continue;
    }
    const DecodeGraph& graph = GraphFor(key, pass);
    graph.Launch(stream);
    if (tracing_ == nullptr) continue;
    if (tracing_->replayed.empty()) {
      tracing_->first_replayed = static_cast<std::size_t>(step - 1) * graph.step.sites.size();
    }
    for (const OpSite& site : graph.step.sites) tracing_->replayed.push_back({{step, site.layer, site.op}, {}});
  }
}

void CudaEngine::TellTokens(const GenerationOptions& options, cudaStream_t stream, Generation& generation) {
  const auto steps = static_cast<std::size_t>(options.max_tokens);
  generation.tokens.resize(steps);
  generation.logprobs.resize(steps);
  generation.top10.resize(steps);
  std::vector<TokenScores> scores(steps);
  if (steps > 0) {
    RECORD_FUNCTION("qwen3::token_scores", c10::ArrayRef<const c10::IValue>{});
    const at::Tensor on_device =
        at::empty({static_cast<std::int64_t>(steps * sizeof(TokenScores))}, OptionsOf(at::kByte));
    LaunchTokenScores(precision_, generation.step_logits.storage.get(), config_.vocab_size,
                      tokens_.const_data_ptr<std::int64_t>(), static_cast<TokenScores*>(on_device.mutable_data_ptr()),
                      options.max_tokens, stream);
    CheckCudaCall(cudaEventRecord(ended_, stream), "cudaEventRecord");
    CopyToHost(scores.data(), on_device.const_data_ptr(), on_device.nbytes(), stream);
    CopyToHost(generation.tokens.data(), tokens_.const_data_ptr(), steps * sizeof(std::int64_t), stream);
  } else {
    CheckCudaCall(cudaEventRecord(ended_, stream), "cudaEventRecord");
  }
  CheckCudaCall(cudaStreamSynchronize(stream), "generation");
  for (std::size_t s = 0; s < steps; ++s) {
    generation.logprobs[s] = scores[s].logprob;
    for (int i = 0; i < kTopTokens && scores[s].top_ids[i] >= 0; ++i) {
      generation.top10[s].emplace_back(scores[s].top_ids[i], scores[s].top_logprobs[i]);
    }
  }
  float prefill_ms = 0;
  float decode_ms = 0;
  CheckCudaCall(cudaEventElapsedTime(&prefill_ms, start_, prefilled_), "cudaEventElapsedTime");
  CheckCudaCall(cudaEventElapsedTime(&decode_ms, prefilled_, ended_), "cudaEventElapsedTime");
  generation.prefill_seconds = prefill_ms / 1e3;
  generation.decode_seconds = decode_ms / 1e3;
}

std::unique_ptr<Qwen3Engine> MakeCudaEngine(const Checkpoint& checkpoint, const Qwen3Options& options) {
  return std::make_unique<CudaEngine>(checkpoint, options);
}

}  // namespace suites::internal
