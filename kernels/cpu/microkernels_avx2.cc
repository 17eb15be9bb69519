#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/microkernels.h"

// From here on, and only in this file: nothing above may be a template that
// another file instantiates too.
#pragma GCC target("avx2,fma,f16c")

#include "kernels/cpu/microkernels_template.h"

namespace kernels::cpu {
namespace {

// 2^23 as a float has a zero mantissa whose last bit weighs 1, so a code placed
// in the low bits is 2^23 + code; (2^23 + q) - (2^23 + z) is exactly q - z.
constexpr int kBiasBits = 0x4B000000;

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kDotRows = 2, kDotVecs = 4, kAwqDotRows = 1, kPanelRows = 6, kPanelVecs = 2;
  using F = __m256;
  using W = __m256i;
  static F Zero() { return _mm256_setzero_ps(); }
  static F Broadcast(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static W LoadWords(const std::uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  template <int kI>
  static F Nibble(W words) {
    const __m256i code = _mm256_and_si256(_mm256_srli_epi32(words, 4 * kI), _mm256_set1_epi32(15));
    return _mm256_castsi256_ps(_mm256_or_si256(code, _mm256_set1_epi32(kBiasBits)));
  }
  static F BiasedZeros(const std::uint8_t* p) {
    const __m256i zeros = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_or_si256(zeros, _mm256_set1_epi32(kBiasBits)));
  }
  static F LoadHalf(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void LoadHalf8(const std::uint16_t* from, float* to) {
    _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static void StoreHalf8(const float* from, std::uint16_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void AddHalf8(const float* addend, std::uint16_t* y) {
    const __m128i rounded = _mm256_cvtps_ph(_mm256_loadu_ps(addend), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 sum =
        _mm256_add_ps(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(y))), _mm256_cvtph_ps(rounded));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y),
                     _mm256_cvtps_ph(sum, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};

}  // namespace

const Microkernels& Avx2Microkernels(WordLayout layout) { return Loops<Avx2>::Table(layout); }

}  // namespace kernels::cpu
