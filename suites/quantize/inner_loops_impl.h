// Included by one source for each instruction set, which defines LOOPS, the name
// of its table. Everything else has internal linkage and nothing of the standard
// library is used: an inline function compiled here must not serve another file.
#include <cstddef>
#include <cstdint>

#include "suites/quantize/inner_loops.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace suites::quantize::internal {
namespace {

// Adding 1.5 * 2^52 leaves a double no bits for a fraction: it rounds to an
// integer, ties to even, in the default rounding mode, and the compiler can
// vectorize it, which it cannot do with nearbyint().
constexpr double kRound = 0x1.8p52;

inline double NearestCode(double weight, double base, double inverse) {
  double position = (weight - base) * inverse;
  position = position > 0.0 ? position : 0.0;
  position = position < 15.0 ? position : 15.0;
  return (position + kRound) - kRound;
}

#if defined(__AVX512F__)

// Two grids of four sums each.
struct Lanes {
  using V = __m512d;
  static constexpr int kGridsOfOne = 2;
  static V Weights(const float* w) { return _mm512_broadcast_f64x4(_mm256_cvtps_pd(_mm_loadu_ps(w))); }
  static V PerGrid(const double* v) { return _mm512_insertf64x4(_mm512_set1_pd(v[0]), _mm256_set1_pd(v[1]), 1); }
  static V All(double v) { return _mm512_set1_pd(v); }
  static V Clamped(V v) { return _mm512_min_pd(_mm512_max_pd(v, _mm512_setzero_pd()), _mm512_set1_pd(15.0)); }
  static void Store(V v, double* out) { _mm512_storeu_pd(out, v); }
};

#elif defined(__AVX2__)

struct Lanes {
  using V = __m256d;
  static constexpr int kGridsOfOne = 1;
  static V Weights(const float* w) { return _mm256_cvtps_pd(_mm_loadu_ps(w)); }
  static V PerGrid(const double* v) { return _mm256_set1_pd(v[0]); }
  static V All(double v) { return _mm256_set1_pd(v); }
  static V Clamped(V v) { return _mm256_min_pd(_mm256_max_pd(v, _mm256_setzero_pd()), _mm256_set1_pd(15.0)); }
  static void Store(V v, double* out) { _mm256_storeu_pd(out, v); }
};

#endif

#if defined(__AVX2__)

void SquaredErrors(const float* weights, std::size_t count, const double* steps, const double* bases, double* errors) {
  using V = Lanes::V;
  constexpr int kVectors = 4;  // independent sums, to hide the latency of their additions
  constexpr int kAtOnce = kVectors * Lanes::kGridsOfOne;
  static_assert(kGrids % kAtOnce == 0);
  const V round = Lanes::All(kRound);
  for (int grid = 0; grid < kGrids; grid += kAtOnce) {
    V inverse[kVectors], step[kVectors], base[kVectors], sum[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      step[v] = Lanes::PerGrid(steps + grid + v * Lanes::kGridsOfOne);
      base[v] = Lanes::PerGrid(bases + grid + v * Lanes::kGridsOfOne);
      inverse[v] = Lanes::All(1.0) / step[v];
      sum[v] = Lanes::All(0.0);
    }
    for (std::size_t i = 0; i < count; i += 4) {
      const V weight = Lanes::Weights(weights + i);
      for (int v = 0; v < kVectors; ++v) {
        const V code = (Lanes::Clamped((weight - base[v]) * inverse[v]) + round) - round;
        const V error = weight - (code * step[v] + base[v]);
        sum[v] = sum[v] + error * error;
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      double lanes[4 * Lanes::kGridsOfOne];
      Lanes::Store(sum[v], lanes);
      for (int g = 0; g < Lanes::kGridsOfOne; ++g) {
        const double* s = lanes + 4 * g;
        errors[grid + v * Lanes::kGridsOfOne + g] = (s[0] + s[1]) + (s[2] + s[3]);
      }
    }
  }
}

#else

void SquaredErrors(const float* weights, std::size_t count, const double* steps, const double* bases, double* errors) {
  for (int grid = 0; grid < kGrids; ++grid) {
    const double step = steps[grid], base = bases[grid], inverse = 1 / step;
    double sums[4] = {0, 0, 0, 0};
    for (std::size_t i = 0; i < count; i += 4) {
      for (int lane = 0; lane < 4; ++lane) {
        const double weight = weights[i + lane];
        const double error = weight - (NearestCode(weight, base, inverse) * step + base);
        sums[lane] += error * error;
      }
    }
    errors[grid] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
}

#endif

void NearestCodes(const float* weights, std::size_t count, double step, double base, std::uint8_t* codes) {
  const double inverse = 1 / step;
  for (std::size_t i = 0; i < count; ++i) {
    codes[i] = static_cast<std::uint8_t>(static_cast<int>(NearestCode(weights[i], base, inverse)));
  }
}

void RandomWeights(std::uint64_t key, std::size_t count, float* out) {
  // The sum of four uniform integers: close to normal, cut at 3.5 standard
  // deviations, and free of a library's exp and log. Its variance is
  // 4 (2^32 - 1) / 12, its standard deviation 37837.2.
  constexpr double kScale = 0.02 / 37837.2;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t z = (key + i) * 0x9e3779b97f4a7c15;  // Mix(key + i)
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    const auto sum =
        static_cast<std::int32_t>((z & 0xffff) + ((z >> 16) & 0xffff) + ((z >> 32) & 0xffff) + (z >> 48)) - 2 * 0xffff;
    // To bf16 and back, ties to even; none is NaN.
    const auto bits = __builtin_bit_cast(std::uint32_t, static_cast<float>(static_cast<double>(sum) * kScale));
    out[i] = __builtin_bit_cast(float, (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
  }
}

}  // namespace

const InnerLoops LOOPS = {SquaredErrors, NearestCodes, RandomWeights};

}  // namespace suites::quantize::internal
