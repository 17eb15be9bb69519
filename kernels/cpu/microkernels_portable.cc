#include <c10/util/Half.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/microkernels.h"
#include "kernels/cpu/microkernels_template.h"

namespace kernels::cpu {
namespace {

float FromHalf(std::uint16_t bits) { return static_cast<float>(c10::Half(bits, c10::Half::from_bits())); }
std::uint16_t ToHalf(float value) { return c10::Half(value).x; }

// One lane. std::fma rounds once on every machine, in software where it must:
// correct, and slow on a CPU without the instruction.
struct Portable {
  static constexpr int kLanes = 1;
  static constexpr int kDotRows = 1, kDotVecs = 4, kAwqDotRows = 1, kPanelRows = 4, kPanelVecs = 4;
  using F = float;
  using W = std::uint32_t;
  static F Zero() { return 0.0F; }
  static F Broadcast(float x) { return x; }
  static F Load(const float* p) { return *p; }
  static void Store(float* p, F v) { *p = v; }
  static F Fma(F a, F b, F c) { return std::fma(a, b, c); }
  static F Sub(F a, F b) { return a - b; }
  static W LoadWords(const std::uint32_t* p) { return *p; }
  template <int kI>
  static F Nibble(W words) {
    return static_cast<float>((words >> (4 * kI)) & 15U);
  }
  static F BiasedZeros(const std::uint8_t* p) { return static_cast<float>(*p); }
  static F LoadHalf(const std::uint16_t* p) { return FromHalf(*p); }
  static void LoadHalf8(const std::uint16_t* from, float* to) {
    for (int i = 0; i < 8; ++i) to[i] = FromHalf(from[i]);
  }
  static void StoreHalf8(const float* from, std::uint16_t* to) {
    for (int i = 0; i < 8; ++i) to[i] = ToHalf(from[i]);
  }
  static void AddHalf8(const float* addend, std::uint16_t* y) {
    for (int i = 0; i < 8; ++i) y[i] = ToHalf(FromHalf(y[i]) + FromHalf(ToHalf(addend[i])));
  }
};

}  // namespace

const Microkernels& PortableMicrokernels(WordLayout layout) { return Loops<Portable>::Table(layout); }

const Microkernels& MicrokernelsFor(Isa isa, WordLayout layout) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return Avx512Microkernels(layout);
  if (isa == Isa::kAvx2) return Avx2Microkernels(layout);
#else
  static_cast<void>(isa);
#endif
  return PortableMicrokernels(layout);
}

}  // namespace kernels::cpu
