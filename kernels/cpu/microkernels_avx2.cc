#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/microkernels.h"

// From here on, and only in this file: nothing above may be a template that
// another file instantiates too.
#pragma GCC target("avx2,fma,f16c")

#include "kernels/cpu/microkernels_template.h"

namespace kernels::cpu {
namespace {

typedef std::int32_t Ints __attribute__((vector_size(32)));

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kDigitRows = 3, kVecs = 2;
  using F = __m256;
  using I = Ints;
  static I LoadInts(const void* p) { return (I)_mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void StoreInts(void* p, I v) { _mm256_storeu_si256(static_cast<__m256i*>(p), (__m256i)v); }
  static void StoreBytes(std::int8_t* p, I v) {
    const __m256i order = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                           0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i bytes = _mm256_shuffle_epi8((__m256i)v, order);
    const int halves[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
    std::memcpy(p, halves, sizeof halves);
  }
  static I BroadcastInt(std::int32_t v) { return (I)_mm256_set1_epi32(v); }
  static I Add(I a, I b) { return (I)_mm256_add_epi32((__m256i)a, (__m256i)b); }
  static I Min(I a, I b) { return (I)_mm256_min_epi32((__m256i)a, (__m256i)b); }
  static I Max(I a, I b) { return (I)_mm256_max_epi32((__m256i)a, (__m256i)b); }
  static I IfZero(I v) { return (I)_mm256_cmpeq_epi32((__m256i)v, _mm256_setzero_si256()); }
  // of(v and its halves, then their halves, ...) in every lane.
  template <class Of>
  static std::int32_t Reduce(I v, Of of) {
    v = of(v, (I)_mm256_permute2x128_si256((__m256i)v, (__m256i)v, 1));
    v = of(v, (I)_mm256_shuffle_epi32((__m256i)v, 0x4E));
    v = of(v, (I)_mm256_shuffle_epi32((__m256i)v, 0xB1));
    return v[0];
  }
  static std::int32_t SumOf(I v) { return Reduce(v, Add); }
  static std::int32_t MinOf(I v) { return Reduce(v, Min); }
  static std::int32_t MaxOf(I v) { return Reduce(v, Max); }
  static I ToInts(F v) { return (I)_mm256_cvtps_epi32(v); }
  static I BitsOf(F v) { return (I)v; }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F Broadcast(float x) { return _mm256_set1_ps(x); }
  static F FromInts(I v) { return _mm256_cvtepi32_ps((__m256i)v); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F LoadHalf(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I Zeros(const std::uint8_t* p) {
    return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static I TimesZeros(I zeros, std::int32_t number) {
    return (I)_mm256_madd_epi16((__m256i)zeros, _mm256_set1_epi32(number));
  }
  static __m256i Digits(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  // Four products of at most 15 x 128 fit 16 bits.
  static I Dot(I acc, I low, I high, const std::int8_t* digits) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16((__m256i)low, Digits(digits)),
                                           _mm256_maddubs_epi16((__m256i)high, Digits(digits + 4)));
    return acc + (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
  static F RoundWide(const std::int32_t* sums, std::ptrdiff_t digit_stride, int count) {
    __m128 halves[2];
    for (int h = 0; h < 2; ++h) {
      __m256d value = _mm256_setzero_pd();
      for (int d = count - 1; d >= 0; --d) {
        const auto* const p = reinterpret_cast<const __m128i*>(sums + d * digit_stride + 4 * h);
        value = _mm256_fmadd_pd(value, _mm256_set1_pd(256), _mm256_cvtepi32_pd(_mm_loadu_si128(p)));
      }
      halves[h] = _mm256_cvtpd_ps(value);
    }
    return _mm256_set_m128(halves[1], halves[0]);
  }
  static void StoreHalf(F v, std::uint16_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void AddHalves(const std::uint16_t* addend, std::uint16_t* y) {
    StoreHalf(_mm256_add_ps(LoadHalf(y), LoadHalf(addend)), y);
  }
};

}  // namespace

const Microkernels& Avx2Microkernels() { return Loops<Avx2>::Table(); }

}  // namespace kernels::cpu
