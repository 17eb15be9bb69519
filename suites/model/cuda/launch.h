// Launches of Qwen3's kernels outside its matmuls. Pointers are to device memory
// unless said otherwise; nothing here synchronizes or allocates. Every sum runs
// in an order that the sizes alone fix, so a row's result depends neither on the
// other rows of a call nor on when a block runs. Rounding is that of
// suites/model/row_ops.h: float32 inside, to the precision where PyTorch's
// modules round.
#ifndef SUITES_MODEL_CUDA_LAUNCH_H_
#define SUITES_MODEL_CUDA_LAUNCH_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "suites/model/row_ops.h"

namespace suites::internal {

// Where a generation stands and what it fills, in device memory: what a captured
// step reads, so that one graph serves every generation.
struct DecodeState {
  std::int32_t step = 0;      // tokens chosen so far
  std::int32_t position = 0;  // of the token that went in last
  void* rows = nullptr;       // [steps, vocab], the logits that are kept
  void* digests = nullptr;    // [steps - 1, operations] of 16 bytes, where traced
};

// Row r of y is row ids[r] of the table, `width` elements (a multiple of 8).
// With `state` there is one row, that of the token chosen last.
void LaunchEmbedding(Precision precision, const void* table, const std::int64_t* ids, const DecodeState* state, void* y,
                     std::int64_t rows, std::int64_t width, cudaStream_t stream);

// sum = round(x + delta), y = rms_norm(sum) * weight; rows of `width` elements,
// a multiple of 8 up to kMaxNormWidth. Without delta (nullptr) sum is not
// written: y = rms_norm(x) * weight. Without y only the sum is made.
inline constexpr std::int64_t kMaxNormWidth = 4 * 8 * 1024;
void LaunchAddRmsNorm(Precision precision, const void* x, const void* delta, const void* weight, float eps, void* sum,
                      void* y, std::int64_t rows, std::int64_t width, cudaStream_t stream);

// The row of the token chosen last, and that normalized with `weight`: what
// begins a decode step. `embedded` and y: [width].
void LaunchEmbeddingRmsNorm(Precision precision, const void* table, const std::int64_t* ids, const DecodeState* state,
                            const void* weight, float eps, void* embedded, void* y, std::int64_t width,
                            cudaStream_t stream);

// Normalizes and rotates the heads of q and k, copies those of v, and puts k and
// v into the cache.
struct RopeArgs {
  const void* qkv = nullptr;     // [rows, (q_heads + 2 kv_heads) head_dim]
  void* out = nullptr;           // the same shape
  void* keys = nullptr;          // [kv_heads, capacity, padded_head_dim]; what pads is set to zero
  void* values = nullptr;        // the same shape
  const void* q_norm = nullptr;  // [head_dim]
  const void* k_norm = nullptr;
  const float* cosine = nullptr;  // [positions, head_dim / 2], rounded to the precision
  const float* sine = nullptr;
  const DecodeState* state = nullptr;  // its position, and one row; nullptr: row r is position first + r
  std::int64_t first = 0;
  std::int64_t rows = 0;
  std::int64_t capacity = 0;
  int q_heads = 0, kv_heads = 0;
  int head_dim = 0;  // a multiple of 8, at most 128
  int padded_head_dim = 0;
  float eps = 0;
};
void LaunchRope(Precision precision, const RopeArgs& args, cudaStream_t stream);

// y[r, i] = round(silu(gate) * up) with gate = x[r, i], up = x[r, width + i]; width a multiple of 8.
void LaunchSiluMul(Precision precision, const void* x, void* y, std::int64_t rows, std::int64_t width,
                   cudaStream_t stream);

// y[r] = sum_i x[i] weight[r, i], r < rows, one row of x, float32 sums; width a
// multiple of 8. A sum's order depends on the width alone.
void LaunchGemv(Precision precision, const void* x, const void* weight, void* y, std::int64_t rows, std::int64_t width,
                cudaStream_t stream);

// One row's attention over the cache, from position 0 to the state's. The
// context is divided as attention_plan.h says; the partial results meet in
// ascending order, in whichever block comes last.
struct DecodeAttentionArgs {
  const void* query = nullptr;  // [q_heads, head_dim]
  const void* keys = nullptr;   // [kv_heads, capacity, padded_head_dim]
  const void* values = nullptr;
  void* out = nullptr;               // [q_heads, head_dim]
  float* workspace = nullptr;        // DecodeAttentionWorkspace() bytes
  std::uint32_t* arrived = nullptr;  // [q_heads], zero before and after
  const DecodeState* state = nullptr;
  std::int64_t capacity = 0;
  std::int64_t max_length = 0;  // the state's position is below it
  int q_heads = 0, kv_heads = 0;
  int head_dim = 0, padded_head_dim = 0;
  float scale = 0;
};
void LaunchDecodeAttention(Precision precision, const DecodeAttentionArgs& args, cudaStream_t stream);
// LaunchRope() for one row by the state, then that, in one launch where tensor
// cores attend: rope.out is args.query, the caches are the same, the bits are those of the two.
void LaunchRopeAttention(Precision precision, const RopeArgs& rope, const DecodeAttentionArgs& args,
                         cudaStream_t stream);
// What both come to on tensor cores (AttendsOnTensorCores()); without a rotation where `rope` is null.
void LaunchMmaAttention(Precision precision, const RopeArgs* rope, const DecodeAttentionArgs& args,
                        cudaStream_t stream);
// Whether a block of the current device has the shared memory for that.
bool MmaAttentionFits(int padded_head_dim);
// For tests: attention goes the way it goes on a device with no more than that.
struct DeviceLimits {
  std::size_t block_bytes = ~std::size_t{0};  // shared memory
  bool clusters = true;                       // of blocks
};
void LimitAttention(const DeviceLimits& limits);
std::size_t DecodeAttentionWorkspace(Precision precision, std::int64_t max_length, int q_heads, int kv_heads,
                                     int padded_head_dim);

// Causal attention of `rows` rows that follow `past` positions; the cache holds
// those of both. On sm_90 where this build has code for sm_90a, fp16 and bf16,
// heads of 128: where AttendsPromptsItself(), on the current device.
struct PrefillAttentionArgs {
  const void* query = nullptr;  // [rows, query_stride], head h at 128 h; 16-byte aligned
  const void* keys = nullptr;   // [kv_heads, capacity, 128]
  const void* values = nullptr;
  void* out = nullptr;  // [rows, q_heads, 128]
  std::int64_t query_stride = 0, rows = 0, past = 0, capacity = 0;
  int q_heads = 0, kv_heads = 0;
  float scale = 0;
};
void LaunchPrefillAttention(Precision precision, const PrefillAttentionArgs& args, cudaStream_t stream);
bool AttendsPromptsItself(Precision precision, int head_dim);

// Takes the token of step state->step from one row of logits: forced[step]
// where not negative, else the largest logit, the lowest id among equals, NaN
// below every number. Keeps the logits as row `step` of state->rows, writes the
// token and moves the state on.
struct SampleArgs {
  const void* logits = nullptr;  // [vocab]
  std::int64_t vocab = 0;
  const std::int64_t* forced = nullptr;  // [steps]
  std::int64_t* tokens = nullptr;        // [steps]
  std::int64_t* token = nullptr;         // the same once more, where it always lies
  DecodeState* state = nullptr;
  std::uint64_t* partial = nullptr;  // [SampleBlocks(vocab)]
  std::uint32_t* arrived = nullptr;  // zero before and after
};
void LaunchSample(Precision precision, const SampleArgs& args, cudaStream_t stream);
std::int64_t SampleBlocks(std::int64_t vocab);

// What is told of a chosen token: as suites::ChooseToken(), in an order of sums of its own.
inline constexpr int kTopTokens = 10;
struct TokenScores {
  std::int64_t top_ids[kTopTokens];  // falling; -1 past the end of a small vocabulary
  float top_logprobs[kTopTokens];
  float logprob;  // of the token itself
  float unused;
};
void LaunchTokenScores(Precision precision, const void* rows, std::int64_t vocab, const std::int64_t* tokens,
                       TokenScores* scores, std::int64_t steps, cudaStream_t stream);

// TreeDigest() (gtest_determinism/digest.h) of each piece, of at most 1 MiB, into
// row state->step - 2 of state->digests: at the end of a decode step, when its
// token is chosen.
struct DigestPiece {
  const void* data = nullptr;
  std::uint64_t bytes = 0;
};
inline constexpr std::uint64_t kMaxDigestPiece = std::uint64_t{1} << 20;
void LoadStepDigests();  // before a capture, during which a kernel cannot be loaded
void LaunchStepDigests(const DigestPiece* pieces, std::int64_t count, const DecodeState* state, cudaStream_t stream);

// Flips the bits of `mask` in one byte; with `state` only while state->step == step.
void LaunchFlip(void* byte, std::uint8_t mask, const DecodeState* state, std::int32_t step, cudaStream_t stream);

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_LAUNCH_H_
