// What one generation produced, and the engines that produce it.
#ifndef SUITES_MODEL_GENERATION_H_
#define SUITES_MODEL_GENERATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest_determinism/bits.h"

namespace suites {

struct GenerationOptions {
  int max_tokens = 50;  // exactly so many; EOS does not stop
  bool all_prompt_logits = false;             // keep the logits of every prompt position
  std::vector<std::int64_t> forced_ids;       // teacher forcing: these follow the prompt instead of the argmax
};

// Logits are kept as the engine computed them (fp16, bf16 or fp32), row-major.
struct LogitRows {
  gtest_determinism::DType dtype = gtest_determinism::DType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t vocab = 0;
  std::vector<std::byte> data;  // rows * vocab elements
  std::vector<float> Row(std::int64_t row) const;  // as float32
};

struct Generation {
  std::vector<std::int64_t> tokens;   // [max_tokens]
  std::vector<float> logprobs;        // [max_tokens], of the chosen token; log-softmax in float32
  std::vector<std::vector<std::pair<std::int64_t, float>>> top10;  // [max_tokens][10], falling
  LogitRows step_logits;    // [max_tokens, vocab]; row s picks token s (row 0: last prompt position)
  LogitRows prompt_logits;  // [prompt, vocab] where asked
  double prefill_seconds = 0, decode_seconds = 0;
};

// Parts: "tokens", "logprobs", then "logits[0]" ... one for each position, and
// "prompt_logits" where kept. Logits come first, in order of position, so that
// the first part that differs is the first divergence.
void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const Generation& generation);

// A tensor that passed through the model, offered to a sink in the order of
// computation. Position: prompt tokens already seen when the pass began.
struct OpOutput {
  int step = 0;          // 0: prefill, then decode steps
  int layer = -1;        // -1: outside the layers
  std::string op;        // "embedding", "input_norm", "qkv_proj", "rope", "attention", "o_proj", "post_norm",
                         // "gate_up_proj", "silu_mul", "down_proj", "residual", "final_norm", "lm_head"
  gtest_determinism::BitView bits;
};
using OpSink = std::function<void(const OpOutput&)>;

// A model loaded and ready. One thread at a time.
class InferenceEngine {
 public:
  virtual ~InferenceEngine() = default;
  // Greedy decoding. Throws std::invalid_argument (ids outside the vocabulary,
  // prompt + max_tokens above max_position_embeddings), std::bad_alloc.
  virtual Generation Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) = 0;
  // Offers every operation's output of the following Generate() calls to
  // `sink`; empty: none. Returns false where the engine cannot look inside.
  virtual bool SetOpSink(OpSink sink) = 0;
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t max_positions() const = 0;
};

}  // namespace suites

#endif  // SUITES_MODEL_GENERATION_H_
