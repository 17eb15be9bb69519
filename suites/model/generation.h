// What one generation produced, and the engines that produce it.
#ifndef SUITES_MODEL_GENERATION_H_
#define SUITES_MODEL_GENERATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest_determinism/bits.h"

namespace suites {

struct GenerationOptions {
  int max_tokens = 50;             // exactly so many; EOS does not stop; 0: the prompt only
  bool all_prompt_logits = false;  // keep the logits of every prompt position
  // Teacher forcing: forced_ids[s] is token s in place of the argmax; the argmax
  // again after the last of them. What exceeds max_tokens is not used.
  std::vector<std::int64_t> forced_ids = {};
};

// Logits are kept as the engine computed them (fp16, bf16 or fp32), row-major,
// where it computed them. A copy shares their memory; Clone() has its own.
struct LogitRows {
  gtest_determinism::DType dtype = gtest_determinism::DType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t vocab = 0;
  const gtest_determinism::MemorySpace* space = &gtest_determinism::HostMemory();
  std::shared_ptr<void> storage = nullptr;  // rows * vocab elements; an address of `space`

  // Unset elements in memory of their own. Throws std::bad_alloc.
  static LogitRows Allocate(gtest_determinism::DType dtype, std::int64_t rows, std::int64_t vocab,
                            const gtest_determinism::MemorySpace& space = gtest_determinism::HostMemory());
  std::size_t row_bytes() const;
  std::size_t bytes() const { return static_cast<std::size_t>(rows) * row_bytes(); }
  std::byte* RowAddress(std::int64_t row) const;   // in `space`
  LogitRows Clone() const;                         // in the same space
  LogitRows OnHost() const;                        // the same rows, copied where they are not on the host
  std::vector<float> Row(std::int64_t row) const;  // as float32, on the host
  // Equal dtype, sizes and bytes.
  bool SameBits(const LogitRows& other) const;
};

// One row of logits turned into a token.
struct TokenChoice {
  std::int64_t id = 0;
  float logprob = 0;
  std::vector<std::pair<std::int64_t, float>> top10;  // falling; fewer where the vocabulary is smaller
};
// Greedy: the largest logit, the lowest id among equals; `forced` (where not
// negative) is taken instead. Log-softmax of float32 logits, its sum in float64
// in the order of the ids. NaN ranks below every number and makes every logprob
// NaN.
TokenChoice ChooseToken(std::span<const float> logits, std::int64_t forced = -1);

struct Generation {
  std::vector<std::int64_t> tokens;  // [max_tokens]
  std::vector<float> logprobs;       // [max_tokens], of the chosen token; log-softmax in float32
  std::vector<std::vector<std::pair<std::int64_t, float>>> top10;  // [max_tokens][10], falling
  LogitRows step_logits;    // [max_tokens, vocab]; row s picks token s (row 0: last prompt position)
  LogitRows prompt_logits;  // [prompt, vocab] where asked, always on the host
  double prefill_seconds = 0, decode_seconds = 0;
};

// Parts in the order of computation, so that the first that differs is the first
// divergence: "prompt_logits" where kept, "logits[0]" ... one for each position,
// then "tokens" and "logprobs"; each after "NAME." where `name` is not empty.
void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const Generation& generation);

// An operation of one generation.
struct OpSite {
  int step = 0;    // 0: prefill, then decode steps
  int layer = -1;  // -1: outside the layers
  std::string op;  // "embedding", "input_norm", "qkv_proj", "rope", "attention", "o_proj", "post_norm",
                   // "gate_up_proj", "silu_mul", "down_proj", "residual", "final_norm", "lm_head", "sampling"
  bool operator==(const OpSite&) const = default;
};

// A tensor that passed through the model, offered to a sink in the order of
// computation. `bits` is valid during the call only; it lies where it was
// computed.
struct OpOutput : OpSite {
  gtest_determinism::BitView bits;
};
using OpSink = std::function<void(const OpOutput&)>;

// What an operation's output was: TreeDigest() of its bytes.
struct TracedOp : OpSite {
  gtest_determinism::Digest digest{};
};

// A model loaded and ready. One thread at a time.
class InferenceEngine {
 public:
  virtual ~InferenceEngine() = default;
  // Greedy decoding. Throws std::invalid_argument (an empty prompt, ids outside
  // the vocabulary, prompt + max_tokens above max_positions()), std::bad_alloc.
  virtual Generation Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) = 0;
  // Offers every operation's output of the following Generate() calls to
  // `sink`; empty: none. Returns false where the engine cannot look inside.
  virtual bool SetOpSink(OpSink sink) = 0;
  // Generates, and tells every operation's output by its digest, in the order of
  // computation; empty where the engine cannot look inside. Ends a sink that was
  // set.
  virtual std::vector<TracedOp> Trace(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options);
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t max_positions() const = 0;
};

}  // namespace suites

#endif  // SUITES_MODEL_GENERATION_H_
