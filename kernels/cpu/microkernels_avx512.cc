#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/microkernels.h"

// From here on, and only in this file: nothing above may be a template that
// another file instantiates too.
#pragma GCC target("avx512f,fma,f16c")
// g++ 12 takes the undefined pass-through operand of its own intrinsics for an
// uninitialized variable (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "kernels/cpu/microkernels_template.h"

namespace kernels::cpu {
namespace {

// 2^23 as a float has a zero mantissa whose last bit weighs 1, so a code placed
// in the low bits is 2^23 + code; (2^23 + q) - (2^23 + z) is exactly q - z.
constexpr int kBiasBits = 0x4B000000;

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr int kDotRows = 4, kDotVecs = 4, kAwqDotRows = 2, kPanelRows = 6, kPanelVecs = 4;
  using F = __m512;
  using W = __m512i;
  static F Zero() { return _mm512_setzero_ps(); }
  static F Broadcast(float x) { return _mm512_set1_ps(x); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static W LoadWords(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
  template <int kI>
  static F Nibble(W words) {
    constexpr int kAndOr = 0xEA;  // (a & b) | c
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_srli_epi32(words, 4 * kI), _mm512_set1_epi32(15),
                                                         _mm512_set1_epi32(kBiasBits), kAndOr));
  }
  static F BiasedZeros(const std::uint8_t* p) {
    const __m512i zeros = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm512_castsi512_ps(_mm512_or_si512(zeros, _mm512_set1_epi32(kBiasBits)));
  }
  static F LoadHalf(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
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

const Microkernels& Avx512Microkernels(WordLayout layout) { return Loops<Avx512>::Table(layout); }

}  // namespace kernels::cpu
