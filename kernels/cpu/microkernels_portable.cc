#include <c10/util/Half.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/microkernels.h"
#include "kernels/cpu/microkernels_template.h"

namespace kernels::cpu {
namespace {

float FromHalf(std::uint16_t bits) { return static_cast<float>(c10::Half(bits, c10::Half::from_bits())); }
std::uint16_t ToHalf(float value) { return c10::Half(value).x; }

// One lane. std::fma rounds once on every machine, in software where it must.
struct Portable {
  static constexpr int kLanes = 1;
  static constexpr int kDigitRows = 4, kVecs = 2;
  using F = float;
  using I = std::int32_t;
  static I LoadInts(const void* p) {
    I value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  static void StoreInts(void* p, I v) { std::memcpy(p, &v, sizeof v); }
  static void StoreBytes(std::int8_t* p, I v) { *p = static_cast<std::int8_t>(v); }
  static I BroadcastInt(std::int32_t v) { return v; }
  static I Add(I a, I b) { return static_cast<I>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b)); }
  static I Min(I a, I b) { return a < b ? a : b; }
  static I Max(I a, I b) { return a > b ? a : b; }
  static I IfZero(I v) { return v == 0 ? -1 : 0; }
  static std::int32_t SumOf(I v) { return v; }
  static std::int32_t MinOf(I v) { return v; }
  static std::int32_t MaxOf(I v) { return v; }
  static I ToInts(F v) { return static_cast<I>(v); }
  static I BitsOf(F v) { return LoadInts(&v); }
  static F Load(const float* p) { return *p; }
  static void Store(float* p, F v) { *p = v; }
  static F Broadcast(float x) { return x; }
  static F FromInts(I v) { return static_cast<float>(v); }
  static F Mul(F a, F b) { return a * b; }
  static F Fma(F a, F b, F c) { return std::fma(a, b, c); }
  static F LoadHalf(const std::uint16_t* p) { return FromHalf(*p); }
  static I Zeros(const std::uint8_t* p) { return *p; }
  static I TimesZeros(I zeros, std::int32_t number) { return zeros * static_cast<std::int16_t>(number); }
  static I Dot(I acc, I low, I high, const std::int8_t* digits) {
    for (int i = 0; i < 4; ++i) acc += (low >> 8 * i & 15) * digits[i] + (high >> 8 * i & 15) * digits[4 + i];
    return acc;
  }
  static F RoundWide(const std::int32_t* sums, std::ptrdiff_t digit_stride, int count) {
    double value = 0;
    for (int d = count - 1; d >= 0; --d) value = value * 256 + sums[d * digit_stride];
    return static_cast<float>(value);
  }
  static void StoreHalf(F v, std::uint16_t* to) { *to = ToHalf(v); }
  static void AddHalves(const std::uint16_t* addend, std::uint16_t* y) {
    *y = ToHalf(FromHalf(*y) + FromHalf(*addend));
  }
};

}  // namespace

const Microkernels& PortableMicrokernels() { return Loops<Portable>::Table(); }

const Microkernels& MicrokernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAmx) return AmxMicrokernels();
  if (isa == Isa::kAvx512) return Avx512Microkernels();
  if (isa == Isa::kAvx2) return Avx2Microkernels();
#else
  static_cast<void>(isa);
#endif
  return PortableMicrokernels();
}

}  // namespace kernels::cpu
