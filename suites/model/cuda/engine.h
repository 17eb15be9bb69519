// Qwen3 on a GPU.
#ifndef SUITES_MODEL_CUDA_ENGINE_H_
#define SUITES_MODEL_CUDA_ENGINE_H_

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest_determinism/cuda.h"
#include "suites/model/cuda/backends.h"
#include "suites/model/cuda/decode_graph.h"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/projection.h"
#include "suites/model/engine_common.h"

namespace suites::internal {

// A bit planted into an operation's output, for tests of what finds it.
struct PlantedFault {
  int step = 0;
  int layer = -1;
  std::string op;
  std::int64_t byte = 0;  // of the output
  std::uint8_t mask = 1;
  auto operator<=>(const PlantedFault&) const = default;
};

class CudaEngine final : public Qwen3Engine {
 public:
  CudaEngine(const Checkpoint& checkpoint, const Qwen3Options& options);
  ~CudaEngine() override;

  Generation Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) override;
  std::vector<TracedOp> Trace(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) override;
  bool SetOpSink(OpSink sink) override {
    op_sink_ = std::move(sink);
    return true;
  }
  void SetMatmulInputSink(InputSink sink) override { input_sink_ = std::move(sink); }
  void SetReplaySink(ReplaySink sink) override { replay_sink_ = std::move(sink); }
  const kernels::Int4Matmul* MatmulOf(int layer, const std::string& op) const override;
  const kernels::KernelIdentity* kernel() const override;
  std::int64_t vocab_size() const override { return config_.vocab_size; }
  std::int64_t max_positions() const override { return max_positions_; }

  // Attention by these backends is offered to the replay sink too, as the
  // operations "attention.flash", and so on, and beside them the head by cuBLAS,
  // "lm_head.cublas".
  void ReplayAttention(std::vector<std::string> backends);

  // For tests.
  void FillCache(std::uint8_t byte);  // every byte of the KV cache
  void PlantFault(std::optional<PlantedFault> fault) { fault_ = std::move(fault); }
  std::size_t captured_graphs() const { return graphs_.size(); }

 private:
  struct Layer {
    at::Tensor input_norm, post_norm, q_norm, k_norm;
    CudaProjection qkv, o, gate_up, down;
    at::Tensor keys, values;  // [kv_heads, max_positions, padded_head_dim]
  };
  // One way through the layers.
  struct Pass {
    int step = 0;
    std::int64_t rows = 0;
    std::int64_t past = 0;              // positions before the first row
    const std::int64_t* ids = nullptr;  // on the device
    bool decode = false;                // the row's token and position come from the state
    std::int64_t max_length = 0;        // of a decode step's context, whichever step
    cudaStream_t stream = nullptr;
  };
  struct Site {
    int layer;
    const char* op;
  };
  struct GraphKey {
    std::int64_t max_length = 0;
    bool traced = false;
    bool deterministic = false;  // PyTorch's switch, which kernels follow when they are launched
    std::optional<PlantedFault> fault;
    auto operator<=>(const GraphKey&) const = default;
  };
  // What a traced generation has told so far.
  struct Tracing {
    explicit Tracing(int device) : queue(device) {}
    gtest_determinism::CudaDigestQueue queue;
    std::vector<OpSite> sites;       // of the queue's digests
    std::vector<TracedOp> replayed;  // of captured steps
    std::size_t first_replayed = 0;  // where their digests begin in the state's
  };
  using Tensors = std::vector<at::Tensor>;

  void LoadWeights(const Checkpoint& checkpoint, bool packed);
  at::Tensor Empty(std::int64_t rows, std::int64_t columns) const;
  at::TensorOptions OptionsOf(at::ScalarType type) const;
  Generation Run(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options, Tracing* tracing);
  void Prefill(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options, cudaStream_t stream,
               Generation& generation);
  void Decode(const GenerationOptions& options, std::int64_t prompt, cudaStream_t stream);
  const DecodeGraph& GraphFor(const GraphKey& key, const Pass& pass);
  void TellTokens(const GenerationOptions& options, cudaStream_t stream, Generation& generation);
  const DecodeState* state() const;

  // Runs one operation, offered and observed. `run` yields an output for each site.
  Tensors Operation(const Pass& pass, std::initializer_list<Site> sites, const std::function<Tensors()>& run,
                    const kernels::Int4Matmul* matmul = nullptr, const at::Tensor& x = {});
  void Observe(const Pass& pass, const Site& site, const at::Tensor& output);

  // The residual stream after the last layer; of a decode step normalized, for the head.
  at::Tensor Forward(const Pass& pass);
  at::Tensor Embed(const Pass& pass);
  Tensors EmbedNorm(const Pass& pass);  // of a decode step
  at::Tensor Norm(const Pass& pass, const Site& site, const at::Tensor& x, const at::Tensor& weight);
  // hidden + y, and that normalized with `weight`.
  Tensors AddNorm(const Pass& pass, int layer, const Site& norm, const at::Tensor& hidden, const at::Tensor& y,
                  const at::Tensor& weight);
  at::Tensor Add(const Pass& pass, int layer, const at::Tensor& hidden, const at::Tensor& y);
  at::Tensor Project(const Pass& pass, int layer, const CudaProjection& projection, const at::Tensor& x);
  RopeArgs RopeOf(const Pass& pass, const Layer& layer, const at::Tensor& qkv, at::Tensor& out) const;
  at::Tensor Attend(const Pass& pass, int index, const Layer& layer, const at::Tensor& qkv);
  at::Tensor SiluMul(const Pass& pass, int index, const at::Tensor& gate_up);
  at::Tensor Head(const Pass& pass, const at::Tensor& hidden);  // what Forward() has of a row, or of some
  void Sample(const Pass& pass, const at::Tensor& logits);

  ModelConfig config_;
  Precision precision_;
  std::int64_t max_positions_;
  std::int64_t prefill_chunk_;
  kernels::KernelRequest kernel_;
  AttentionBackend attention_;
  bool attends_prompts_ = false;  // by its own kernel, where that is the default
  bool eager_;
  c10::Device device_;
  int padded_head_dim_;
  c10::cuda::CUDAStream own_stream_;
  std::vector<Layer> layers_;
  at::Tensor embedding_, final_norm_, head_;
  at::Tensor cosine_, sine_;                    // [max_positions, head_dim / 2]
  at::Tensor state_, tokens_, token_, forced_;  // what a step reads and writes
  at::Tensor partial_, arrived_, attention_workspace_;
  cudaEvent_t start_ = nullptr, prefilled_ = nullptr, ended_ = nullptr;
  std::map<GraphKey, std::unique_ptr<DecodeGraph>> graphs_;
  OpSink op_sink_;
  InputSink input_sink_;
  ReplaySink replay_sink_;
  std::vector<std::pair<std::string, AttentionBackend>> replayed_backends_;  // by operation
  std::optional<PlantedFault> fault_;
  Tracing* tracing_ = nullptr;       // during Trace()
  StepRecord* recording_ = nullptr;  // while a traced step is captured
};

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_ENGINE_H_
