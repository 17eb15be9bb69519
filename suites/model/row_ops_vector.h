// Sixteen floats, for row_ops_impl.h: a vector of the compiler's own where that is a
// register (AVX-512) or where nothing else serves, two registers on AVX2, where the
// compiler keeps vectors of 64 bytes in memory.
//
// Only headers without inline functions that others might share are included: a
// copy compiled for AVX-512 must not be the one that the linker keeps for all.
#ifndef SUITES_MODEL_ROW_OPS_VECTOR_H_
#define SUITES_MODEL_ROW_OPS_VECTOR_H_

#include <cstdint>
#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#define ROW_OPS_INLINE inline __attribute__((always_inline))

namespace suites::internal {
namespace {

constexpr std::int64_t kLanes = 16;

struct Fp16 {
  std::uint16_t bits;
};
struct Bf16 {
  std::uint16_t bits;
};
using Fp32 = float;

#if !defined(__F16C__)
// Exact, to nearest even, without tables: normal numbers by a shift of the
// exponent, subnormal ones by an addition that aligns them.
ROW_OPS_INLINE float HalfToFloat(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  std::uint32_t bits = 0;
  if (magnitude >= 0x7c00u) {
    bits = 0x7f800000u | (magnitude & 0x3ffu) << 13 | (magnitude > 0x7c00u ? 0x400000u : 0u);
  } else if (magnitude >= 0x400u) {
    bits = (magnitude << 13) + (112u << 23);
  } else {
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    std::memcpy(&bits, &subnormal, 4);
  }
  bits |= sign;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
ROW_OPS_INLINE std::uint16_t FloatToHalf(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
  if (bits >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65536 and above
  if (bits < 0x38800000u) {  // below 2^-14: the float addition rounds to a multiple of 2^-24
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;  // one ulp of [0.5, 1) is 2^-24
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + (bits >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | ((bits - (112u << 23)) >> 13));
}
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
struct Vec {
  __m256 low, high;
};

ROW_OPS_INLINE Vec Broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
ROW_OPS_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
ROW_OPS_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
ROW_OPS_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
ROW_OPS_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
ROW_OPS_INLINE Vec operator+(Vec a, float b) { return a + Broadcast(b); }
ROW_OPS_INLINE Vec operator+(float a, Vec b) { return Broadcast(a) + b; }
ROW_OPS_INLINE Vec operator-(Vec a, float b) { return a - Broadcast(b); }
ROW_OPS_INLINE Vec operator*(Vec a, float b) { return a * Broadcast(b); }
ROW_OPS_INLINE Vec operator/(Vec a, float b) { return a / Broadcast(b); }
ROW_OPS_INLINE Vec& operator+=(Vec& a, Vec b) { return a = a + b; }
ROW_OPS_INLINE Vec operator-(Vec v) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(v.low, sign), _mm256_xor_ps(v.high, sign)};
}
ROW_OPS_INLINE Vec Larger(Vec a, Vec b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
ROW_OPS_INLINE Vec Smaller(Vec a, Vec b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
ROW_OPS_INLINE Vec ZeroWhereLess(Vec x, Vec bound, Vec v) {
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.low, bound.low, _CMP_LT_OQ), v.low),
          _mm256_andnot_ps(_mm256_cmp_ps(x.high, bound.high, _CMP_LT_OQ), v.high)};
}
ROW_OPS_INLINE __m256 PowerOfTwo(__m256 shifted, __m256 shift) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(shift));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
ROW_OPS_INLINE Vec PowerOfTwo(Vec shifted, Vec shift) {
  return {PowerOfTwo(shifted.low, shift.low), PowerOfTwo(shifted.high, shift.high)};
}
ROW_OPS_INLINE Vec Fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

ROW_OPS_INLINE Vec Load(const Fp32* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
ROW_OPS_INLINE void Store(Fp32* p, Vec v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}
ROW_OPS_INLINE __m128i LoadBits(const void* p, int half) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p) + half);
}
ROW_OPS_INLINE Vec Load(const Fp16* p) { return {_mm256_cvtph_ps(LoadBits(p, 0)), _mm256_cvtph_ps(LoadBits(p, 1))}; }
ROW_OPS_INLINE void Store(Fp16* p, Vec v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.low, kNearest));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p) + 1, _mm256_cvtps_ph(v.high, kNearest));
}
ROW_OPS_INLINE __m256 Widen(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
ROW_OPS_INLINE Vec Load(const Bf16* p) { return {Widen(LoadBits(p, 0)), Widen(LoadBits(p, 1))}; }
ROW_OPS_INLINE __m256i Narrow(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v), upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
}
ROW_OPS_INLINE void Store(Bf16* p, Vec v) {
  // Packs within halves of 128 bits; put in order after.
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(Narrow(v.low), Narrow(v.high)), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
}
#else
typedef float Vec __attribute__((vector_size(64)));
typedef std::int32_t IntVec __attribute__((vector_size(64)));
typedef std::uint32_t UintVec __attribute__((vector_size(64)));
typedef std::uint16_t HalfVec __attribute__((vector_size(32)));

ROW_OPS_INLINE Vec Broadcast(float value) {
#if defined(__AVX512F__)
  return (Vec)_mm512_set1_ps(value);  // which the compiler does not see in what follows
#else
  return Vec{value, value, value, value, value, value, value, value,
             value, value, value, value, value, value, value, value};
#endif
}

ROW_OPS_INLINE Vec Load(const Fp32* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
ROW_OPS_INLINE void Store(Fp32* p, Vec v) { std::memcpy(p, &v, sizeof v); }

ROW_OPS_INLINE Vec Load(const Bf16* p) {
  HalfVec half;
  std::memcpy(&half, p, sizeof half);
  return (Vec)(__builtin_convertvector(half, UintVec) << 16);
}
ROW_OPS_INLINE void Store(Bf16* p, Vec v) {
  const UintVec bits = (UintVec)v;
  const UintVec rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const UintVec quiet = bits >> 16 | 0x40u;
  const HalfVec half = __builtin_convertvector(v == v ? rounded : quiet, HalfVec);
  std::memcpy(p, &half, sizeof half);
}

// Of a NaN and a number, b.
ROW_OPS_INLINE Vec Larger(Vec a, Vec b) { return a > b ? a : b; }
ROW_OPS_INLINE Vec Smaller(Vec a, Vec b) { return a < b ? a : b; }
ROW_OPS_INLINE Vec ZeroWhereLess(Vec x, Vec bound, Vec v) { return x < bound ? Vec{} : v; }
// 2^n of shifted = n + shift, where shift is 1.5 2^23.
ROW_OPS_INLINE Vec PowerOfTwo(Vec shifted, Vec shift) { return (Vec)(((IntVec)shifted - (IntVec)shift + 127) << 23); }

#if defined(__AVX512F__)
ROW_OPS_INLINE Vec Load(const Fp16* p) {
  // With a mask of all lanes: the plain form warns of an uninitialized value (GCC bug 105593).
  return (Vec)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
ROW_OPS_INLINE void Store(Fp16* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
ROW_OPS_INLINE Vec Fma(Vec a, Vec b, Vec c) { return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#else
ROW_OPS_INLINE Vec Load(const Fp16* p) {
  float out[kLanes];
  for (int i = 0; i < kLanes; ++i) out[i] = HalfToFloat(p[i].bits);
  return Load(out);
}
ROW_OPS_INLINE void Store(Fp16* p, Vec v) {
  float in[kLanes];
  Store(in, v);
  for (int i = 0; i < kLanes; ++i) p[i].bits = FloatToHalf(in[i]);
}
// In float64, where the product is exact; the sum, where it is not, is made odd, so
// that rounding it again to float32 is rounding once (Boldo and Melquiond, Emulation
// of FMA and correctly rounded sums, 2008).
ROW_OPS_INLINE float FmaOf(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;
  double sum = product + c;
  const double added = sum - product;
  const double error = (product - (sum - added)) + (c - added);
  std::int64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  if ((error > 0 || error < 0) && (bits & 1) == 0) {
    bits += (error > 0) == (sum > 0) ? 1 : -1;
    std::memcpy(&sum, &bits, sizeof bits);
  }
  return static_cast<float>(sum);
}
ROW_OPS_INLINE Vec Fma(Vec a, Vec b, Vec c) {
  for (int i = 0; i < kLanes; ++i) c[i] = FmaOf(a[i], b[i], c[i]);
  return c;
}
#endif
#endif

}  // namespace
}  // namespace suites::internal

#endif  // SUITES_MODEL_ROW_OPS_VECTOR_H_
