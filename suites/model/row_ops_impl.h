// The body of row_ops.h, compiled once for each instruction set.
//
// ROW_OPS_TABLE names the function that this translation unit defines.
#include <cstdint>
#include <cstring>

#include "suites/model/row_ops.h"
#include "suites/model/row_ops_vector.h"

namespace suites::internal {
namespace {

// The first `n` lanes; the others are zero, and stay unwritten.
template <class T>
ROW_OPS_INLINE Vec LoadPart(const T* p, std::int64_t n) {
  if (n >= kLanes) return Load(p);
  T part[kLanes] = {};
  std::memcpy(part, p, static_cast<std::size_t>(n) * sizeof(T));
  return Load(part);
}
template <class T>
ROW_OPS_INLINE void StorePart(T* p, Vec v, std::int64_t n) {
  if (n >= kLanes) return Store(p, v);
  T part[kLanes];
  Store(part, v);
  std::memcpy(p, part, static_cast<std::size_t>(n) * sizeof(T));
}

template <class T>
ROW_OPS_INLINE Vec Round(Vec v) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return v;
  } else {
    T rounded[kLanes];
    Store(rounded, v);
    return Load(rounded);
  }
}

ROW_OPS_INLINE float Sum(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// e^x as 2^n e^r with |r| <= ln(2) / 2, e^r by its Taylor polynomial of degree 7
// (remainder below 6e-9, a tenth of a float's half ulp), ln(2) in two parts
// (Cody and Waite). 0 below -87, e^88 above 88.
ROW_OPS_INLINE Vec Exp(Vec x) {
  const Vec bottom = Broadcast(-87.0f);
  const Vec clamped = Smaller(Broadcast(88.0f), Larger(bottom, x));
  const Vec shift = Broadcast(0x1.8p23f);  // adding it rounds to an integer
  const Vec shifted = clamped * 1.44269504f + shift;
  const Vec n = shifted - shift;
  const Vec r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  Vec p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return ZeroWhereLess(x, bottom, p * PowerOfTwo(shifted, shift));
}

ROW_OPS_INLINE std::int64_t Least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

template <class T>
struct Ops {
  static void RmsNorm(const void* x_bytes, const void* weight_bytes, void* y_bytes, std::int64_t n, float eps) {
    const auto* x = static_cast<const T*>(x_bytes);
    const auto* weight = static_cast<const T*>(weight_bytes);
    auto* y = static_cast<T*>(y_bytes);
    Vec squares = {};
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const Vec v = LoadPart(x + i, n - i);
      squares += v * v;
    }
    const float inverse = 1.0f / __builtin_sqrtf(Sum(squares) / static_cast<float>(n) + eps);
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const Vec normal = Round<T>(LoadPart(x + i, n - i) * inverse);
      StorePart(y + i, LoadPart(weight + i, n - i) * normal, n - i);
    }
  }

  static void Add(const void* a, const void* b, void* y, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += kLanes) {
      StorePart(static_cast<T*>(y) + i,
                LoadPart(static_cast<const T*>(a) + i, n - i) + LoadPart(static_cast<const T*>(b) + i, n - i), n - i);
    }
  }

  static void SiluMul(const void* gate, const void* up, void* y, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const Vec g = LoadPart(static_cast<const T*>(gate) + i, n - i);
      const Vec silu = Round<T>(g / (1.0f + Exp(-g)));
      StorePart(static_cast<T*>(y) + i, silu * LoadPart(static_cast<const T*>(up) + i, n - i), n - i);
    }
  }

  static void Rope(void* x_bytes, const float* cosine, const float* sine, std::int64_t half) {
    auto* x = static_cast<T*>(x_bytes);
    for (std::int64_t i = 0; i < half; i += kLanes) {
      const std::int64_t n = half - i;
      const Vec low = LoadPart(x + i, n);
      const Vec high = LoadPart(x + half + i, n);
      const Vec c = LoadPart(cosine + i, n);
      const Vec s = LoadPart(sine + i, n);
      StorePart(x + i, Round<T>(low * c) - Round<T>(high * s), n);
      StorePart(x + half + i, Round<T>(high * c) + Round<T>(low * s), n);
    }
  }

  static void ToFloat(const void* x, float* y, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += kLanes) StorePart(y + i, LoadPart(static_cast<const T*>(x) + i, n - i), n - i);
  }
  static void FromFloat(const float* x, void* y, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += kLanes) StorePart(static_cast<T*>(y) + i, LoadPart(x + i, n - i), n - i);
  }

  // Sums that are held at a time, in half of the registers there are.
#if defined(__AVX512F__)
  static constexpr int kSums = 16;
#else
  static constexpr int kSums = 4;
#endif

  // R rows of x against C columns of the weight: what is loaded once serves R or C times.
  template <int R, int C>
  static void LinearTile(const float* x, std::int64_t k, const T* weight, T* y, std::int64_t y_stride) {
    Vec sum[R][C] = {};
    for (std::int64_t i = 0; i < k; i += kLanes) {
      Vec w[C];
      for (int c = 0; c < C; ++c) w[c] = LoadPart(weight + c * k + i, k - i);
      for (int r = 0; r < R; ++r) {
        const Vec v = LoadPart(x + r * k + i, k - i);
        for (int c = 0; c < C; ++c) sum[r][c] = Fma(v, w[c], sum[r][c]);
      }
    }
    for (int r = 0; r < R; ++r) {
      float out[kLanes] = {};
      for (int c = 0; c < C; ++c) out[c] = Sum(sum[r][c]);
      StorePart(y + r * y_stride, Load(out), C);
    }
  }
  template <int C>
  static void LinearColumns(const float* x, std::int64_t rows, std::int64_t k, const T* weight, T* y,
                            std::int64_t y_stride) {
    std::int64_t r = 0;
    constexpr int kRows = kSums / C;
    if constexpr (kRows > 1) {
      for (; r + kRows <= rows; r += kRows) LinearTile<kRows, C>(x + r * k, k, weight, y + r * y_stride, y_stride);
    }
    for (; r < rows; ++r) LinearTile<1, C>(x + r * k, k, weight, y + r * y_stride, y_stride);
  }
  static void Linear(const float* x, std::int64_t rows, std::int64_t k, const void* weight_bytes, std::int64_t columns,
                     void* y_bytes, std::int64_t y_stride) {
    const auto* weight = static_cast<const T*>(weight_bytes);
    auto* y = static_cast<T*>(y_bytes);
    std::int64_t c = 0;
    if (kSums < 16 && rows > 1) {
      for (; c + 2 <= columns; c += 2) LinearColumns<2>(x, rows, k, weight + c * k, y + c, y_stride);
    }
    for (; c + 4 <= columns; c += 4) LinearColumns<4>(x, rows, k, weight + c * k, y + c, y_stride);
    for (; c < columns; ++c) LinearColumns<1>(x, rows, k, weight + c * k, y + c, y_stride);
  }

  static void StoreKeyValue(const void* key, const void* value, void* keys, void* values, std::int64_t position,
                            std::int64_t head_dim, std::int64_t padded_head_dim) {
    auto* block = static_cast<T*>(keys) + position / kLanes * head_dim * kLanes + position % kLanes;
    for (std::int64_t d = 0; d < head_dim; ++d) block[d * kLanes] = static_cast<const T*>(key)[d];
    auto* row = static_cast<T*>(values) + position * padded_head_dim;
    std::memcpy(row, value, static_cast<std::size_t>(head_dim) * sizeof(T));
    std::memset(static_cast<void*>(row + head_dim), 0,
                static_cast<std::size_t>(padded_head_dim - head_dim) * sizeof(T));
  }

  // scores[l, 16 b + j] = scale * sum_d query[l, d] key[16 b + j, d], V blocks of 16 positions at a time.
  template <int L, int V>
  static void ScoreBlocks(const float* query, std::int64_t head_dim, std::int64_t query_stride, const T* block,
                          float scale, float* scores, std::int64_t scores_stride) {
    Vec sum[L][V] = {};
    for (std::int64_t d = 0; d < head_dim; ++d) {
      Vec key[V];
      for (int v = 0; v < V; ++v) key[v] = Load(block + (v * head_dim + d) * kLanes);
      for (int l = 0; l < L; ++l) {
        const Vec q = Broadcast(query[l * query_stride + d]);
        for (int v = 0; v < V; ++v) sum[l][v] = Fma(q, key[v], sum[l][v]);
      }
    }
    for (int l = 0; l < L; ++l) {
      for (int v = 0; v < V; ++v) Store(scores + l * scores_stride + v * kLanes, sum[l][v] * scale);
    }
  }
  template <int L>
  static void Scores(const float* query, std::int64_t head_dim, std::int64_t query_stride, const T* keys,
                     std::int64_t blocks, float scale, float* scores, std::int64_t stride) {
    constexpr int kWide = kSums / L < 4 ? kSums / L : 4;
    std::int64_t b = 0;
    for (; b + kWide <= blocks; b += kWide) {
      ScoreBlocks<L, kWide>(query, head_dim, query_stride, keys + b * head_dim * kLanes, scale, scores + b * kLanes,
                            stride);
    }
    for (; b < blocks; ++b) {
      ScoreBlocks<L, 1>(query, head_dim, query_stride, keys + b * head_dim * kLanes, scale, scores + b * kLanes,
                        stride);
    }
  }

  // sum[l] += sum over positions [first, last) of weights[l, s] values[s], 16 V columns of the values at a time.
  template <int L, int V>
  static void ValueColumns(const float* weights, std::int64_t stride, std::int64_t first, std::int64_t last,
                           const T* values, std::int64_t value_stride, float* sums, std::int64_t sums_stride) {
    Vec sum[L][V];
    for (int l = 0; l < L; ++l) {
      for (int v = 0; v < V; ++v) sum[l][v] = Load(sums + l * sums_stride + v * kLanes);
    }
    for (std::int64_t s = first; s < last; ++s) {
      Vec value[V];
      for (int v = 0; v < V; ++v) value[v] = Load(values + s * value_stride + v * kLanes);
      for (int l = 0; l < L; ++l) {
        const Vec w = Broadcast(weights[l * stride + s]);
        for (int v = 0; v < V; ++v) sum[l][v] = Fma(w, value[v], sum[l][v]);
      }
    }
    for (int l = 0; l < L; ++l) {
      for (int v = 0; v < V; ++v) Store(sums + l * sums_stride + v * kLanes, sum[l][v]);
    }
  }
  template <int L>
  static void Values(const float* weights, std::int64_t stride, std::int64_t first, std::int64_t last, const T* values,
                     std::int64_t padded_head_dim, float* sums) {
    constexpr int kWide = kSums / L < 4 ? kSums / L : 4;
    std::int64_t d = 0;
    for (; d + kWide * kLanes <= padded_head_dim; d += kWide * kLanes) {
      ValueColumns<L, kWide>(weights, stride, first, last, values + d, padded_head_dim, sums + d, padded_head_dim);
    }
    for (; d < padded_head_dim; d += kLanes) {
      ValueColumns<L, 1>(weights, stride, first, last, values + d, padded_head_dim, sums + d, padded_head_dim);
    }
  }

  // Turns `length` scores into weights e^(score - max); returns their sum. Up to `end` (whole blocks) zero follows.
  static float Softmax(float* scores, std::int64_t length, std::int64_t end) {
    const float infinity = __builtin_inff();
    for (std::int64_t s = length; s < end; ++s) scores[s] = -infinity;
    Vec largest = Broadcast(-infinity);
    for (std::int64_t s = 0; s < end; s += kLanes) {
      largest = Larger(Load(scores + s), largest);
    }
    float lanes[kLanes];
    Store(lanes, largest);
    float max = lanes[0];
    for (int i = 1; i < kLanes; ++i) max = lanes[i] > max ? lanes[i] : max;
    Vec sum = {};
    for (std::int64_t s = 0; s < end; s += kLanes) {
      const Vec v = Exp(Load(scores + s) - max);
      Store(scores + s, v);
      sum += v;
    }
    return Sum(sum);
  }

  template <int L>
  static void AttentionLines(const AttentionArgs& args, std::int64_t kv_head, std::int64_t first, float* scratch) {
    const std::int64_t d = args.head_dim;
    const std::int64_t padded = args.padded_head_dim;
    const std::int64_t stride = args.capacity;
    float* query = scratch;
    float* sums = query + L * padded;
    float* scores = sums + L * padded;
    const auto* keys = static_cast<const T*>(args.keys) + kv_head * args.capacity * d;
    const auto* values = static_cast<const T*>(args.values) + kv_head * args.capacity * padded;
    std::int64_t length[L];
    std::int64_t element[L];  // of the line's head in query and out
    for (int l = 0; l < L; ++l) {
      const std::int64_t row = (first + l) / args.group;
      const std::int64_t head = kv_head * args.group + (first + l) % args.group;
      length[l] = args.past + row + 1;
      element[l] = row * args.out_stride + head * d;
      ToFloat(static_cast<const T*>(args.query) + row * args.query_stride + head * d, query + l * padded, d);
    }
    const std::int64_t blocks = (length[L - 1] + kLanes - 1) / kLanes;
    Scores<L>(query, d, padded, keys, blocks, args.scale, scores, stride);
    float sum[L];
    for (int l = 0; l < L; ++l) sum[l] = Softmax(scores + l * stride, length[l], blocks * kLanes);

    // What lies after a line's own position is not even multiplied by zero: a
    // NaN there would reach back.
    for (std::int64_t i = 0; i < L * padded; ++i) sums[i] = 0;
    Values<L>(scores, stride, 0, length[0], values, padded, sums);
    for (int l = 1; l < L; ++l) {
      Values<1>(scores + l * stride, stride, length[0], length[l], values, padded, sums + l * padded);
    }
    for (int l = 0; l < L; ++l) {
      for (std::int64_t i = 0; i < d; i += kLanes) {
        StorePart(static_cast<T*>(args.out) + element[l] + i, Load(sums + l * padded + i) / sum[l], d - i);
      }
    }
  }

  static void Attention(const AttentionArgs& args, std::int64_t kv_head, std::int64_t first, std::int64_t lines,
                        float* scratch) {
    if constexpr (kSums >= 8) {
      for (; lines >= 8; lines -= 8, first += 8) AttentionLines<8>(args, kv_head, first, scratch);
    }
    for (; lines >= 4; lines -= 4, first += 4) AttentionLines<4>(args, kv_head, first, scratch);
    for (; lines >= 2; lines -= 2, first += 2) AttentionLines<2>(args, kv_head, first, scratch);
    for (; lines >= 1; lines -= 1, first += 1) AttentionLines<1>(args, kv_head, first, scratch);
  }

  static constexpr RowOps kTable = {RmsNorm, Add, SiluMul, Rope, ToFloat, FromFloat, Linear, StoreKeyValue, Attention};
};

}  // namespace

const RowOps& ROW_OPS_TABLE(Precision precision) {
  switch (precision) {
    case Precision::kFp16:
      return Ops<Fp16>::kTable;
    case Precision::kBf16:
      return Ops<Bf16>::kTable;
    case Precision::kFp32:
      break;
  }
  return Ops<Fp32>::kTable;
}

}  // namespace suites::internal
