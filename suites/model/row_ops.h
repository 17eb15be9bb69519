// The arithmetic of Qwen3 outside its matmuls, one row at a time, on the CPU.
//
// Every function rounds to the precision where PyTorch's modules would and
// computes in float32 in between. Sums run in a fixed order: 16 lanes along the
// row, then a tree over the lanes. The sums of products of `linear` and `attention`
// are chains of fused multiply-adds on every instruction set (emulated on one that
// has none); elsewhere no multiply is fused with an add. A row's result therefore
// depends neither on the other rows of a call nor on threads, and is the same on
// every instruction set (a NaN's payload excepted).
#ifndef SUITES_MODEL_ROW_OPS_H_
#define SUITES_MODEL_ROW_OPS_H_

#include <cstdint>

namespace suites::internal {

enum class Precision : std::uint8_t { kFp16, kBf16, kFp32 };
enum class Isa : std::uint8_t { kBaseline, kAvx2, kAvx512 };

// Causal grouped-query attention over a cache of `capacity` positions.
struct AttentionArgs {
  const void* query = nullptr;  // [rows, query_stride]; head h starts at element h * head_dim
  std::int64_t query_stride = 0;
  const void* keys = nullptr;    // [kv_heads, capacity / 16, head_dim, 16]
  const void* values = nullptr;  // [kv_heads, capacity, padded_head_dim]
  std::int64_t capacity = 0;     // multiple of 16
  std::int64_t head_dim = 0;
  std::int64_t padded_head_dim = 0;  // multiple of 16
  std::int64_t group = 0;            // query heads for each key-value head
  std::int64_t past = 0;             // row r attends to positions 0 ... past + r
  float scale = 0;
  void* out = nullptr;  // [rows, out_stride], heads as in `query`
  std::int64_t out_stride = 0;
};
inline constexpr std::int64_t kAttentionLines = 8;  // a line is one query head of one row

// Pointers to elements of the table's precision are void.
struct RowOps {
  // y = round(weight * round(x / sqrt(mean(x^2) + eps))), n elements. y may be x.
  void (*rms_norm)(const void* x, const void* weight, void* y, std::int64_t n, float eps);
  void (*add)(const void* a, const void* b, void* y, std::int64_t n);
  // y = round(round(gate / (1 + exp(-gate))) * up)
  void (*silu_mul)(const void* gate, const void* up, void* y, std::int64_t n);
  // In place on one head of 2 * half elements, halves rotated against each other
  // (rotate_half of transformers). cosine, sine: [half], rounded to the precision.
  void (*rope)(void* x, const float* cosine, const float* sine, std::int64_t half);
  void (*to_float)(const void* x, float* y, std::int64_t n);
  void (*from_float)(const float* x, void* y, std::int64_t n);
  // y[r, c] = round(sum_k x[r, k] weight[c, k]); x [rows, k], weight [columns, k], y rows of y_stride elements.
  void (*linear)(const float* x, std::int64_t rows, std::int64_t k, const void* weight, std::int64_t columns, void* y,
                 std::int64_t y_stride);
  // One row's key and value of one head into its cache at `position`; layouts as in AttentionArgs.
  void (*store_key_value)(const void* key, const void* value, void* keys, void* values, std::int64_t position,
                          std::int64_t head_dim, std::int64_t padded_head_dim);
  // Lines [first, first + lines) of `kv_head`, lines <= kAttentionLines; line l is head l % group of
  // row l / group. scratch: AttentionScratch() floats.
  void (*attention)(const AttentionArgs& args, std::int64_t kv_head, std::int64_t first, std::int64_t lines,
                    float* scratch);
};

inline std::int64_t AttentionScratch(const AttentionArgs& args) {
  return kAttentionLines * (args.capacity + 2 * args.padded_head_dim);
}

// The best that this CPU runs.
Isa BestIsa();
const RowOps& RowOpsFor(Precision precision, Isa isa = BestIsa());

const RowOps& RowOpsBaseline(Precision precision);
const RowOps& RowOpsAvx2(Precision precision);
const RowOps& RowOpsAvx512(Precision precision);

}  // namespace suites::internal

#endif  // SUITES_MODEL_ROW_OPS_H_
