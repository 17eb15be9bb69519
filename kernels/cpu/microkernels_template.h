// The loops of microkernels.h over a vector type V. To be included by one .cc
// for each instruction set, after its target pragma: everything here has
// internal linkage, so that no code for a newer CPU can reach another file.
//
// V has: kLanes; kDotRows, kDotVecs, kAwqDotRows, kPanelRows, kPanelVecs (register
// blocking); types F (floats) and W (words); Zero, Broadcast, Load, Store, Fma,
// Sub, LoadWords, Nibble<i> (code i as a float plus V's bias), BiasedZeros (zero
// points as floats plus that bias), LoadHalf, and for blocks of eight values
// LoadHalf8, StoreHalf8, AddHalf8.
#ifndef KERNELS_CPU_MICROKERNELS_TEMPLATE_H_
#define KERNELS_CPU_MICROKERNELS_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/microkernels.h"

namespace kernels::cpu {
namespace {

template <typename Body, int... kI>
[[gnu::always_inline]] inline void UnrollImpl(Body&& body, std::integer_sequence<int, kI...>) {
  (body(std::integral_constant<int, kI>{}), ...);
}
template <int kCount, typename Body>
[[gnu::always_inline]] inline void Unroll(Body&& body) {
  UnrollImpl(body, std::make_integer_sequence<int, kCount>{});
}

template <class V>
struct Loops {
  using F = typename V::F;
  using W = typename V::W;

  template <int kRows, int kVecs>
  static void AddScaled(const F (&sums)[kRows][kVecs], const std::uint16_t* scales, float* totals, int width) {
    for (int v = 0; v < kVecs; ++v) {
      const F scale = V::LoadHalf(scales + v * V::kLanes);
      for (int r = 0; r < kRows; ++r) {
        float* const total = totals + static_cast<std::ptrdiff_t>(r) * width + v * V::kLanes;
        V::Store(total, V::Fma(scale, sums[r][v], V::Load(total)));
      }
    }
  }

  template <int kRows>
  static void DotAlongK(const GroupBlock& block, const float* x, std::ptrdiff_t ldx, float* totals) {
    constexpr int kVecs = V::kDotVecs;
    for (int c = 0; c < kTileAlongK; c += kVecs * V::kLanes) {
      F sums[kRows][kVecs], zeros[kVecs];
      for (int v = 0; v < kVecs; ++v) {
        zeros[v] = V::BiasedZeros(block.zeros + c + v * V::kLanes);
        for (int r = 0; r < kRows; ++r) sums[r][v] = V::Zero();
      }
      const std::uint32_t* row = block.words + c;
      for (int k = 0; k < block.rows; k += 8, row += block.row_stride) {
        W words[kVecs];
        for (int v = 0; v < kVecs; ++v) {
          words[v] = V::LoadWords(row + v * V::kLanes);
          __builtin_prefetch(row + v * V::kLanes + block.prefetch);
        }
        Unroll<8>([&](auto i) __attribute__((always_inline)) {
          F xs[kRows];
          for (int r = 0; r < kRows; ++r) xs[r] = V::Broadcast(x[r * ldx + k + i]);
          for (int v = 0; v < kVecs; ++v) {
            const F w = V::Sub(V::template Nibble<i>(words[v]), zeros[v]);
            for (int r = 0; r < kRows; ++r) sums[r][v] = V::Fma(xs[r], w, sums[r][v]);
          }
        });
      }
      AddScaled<kRows, kVecs>(sums, block.scales + c, totals + c, kTileAlongK);
    }
  }

  template <int kRows>
  static void DotAlongN(const GroupBlock& block, const float* x, std::ptrdiff_t ldx, float* totals) {
    constexpr int kWords = kTileAlongN / 8;
    for (int c = 0; c < kWords; c += V::kLanes) {
      F sums[kRows][8], zeros[8];
      for (int i = 0; i < 8; ++i) {
        zeros[i] = V::BiasedZeros(block.zeros + i * kWords + c);
        for (int r = 0; r < kRows; ++r) sums[r][i] = V::Zero();
      }
      const std::uint32_t* row = block.words + c;
      for (int k = 0; k < block.rows; ++k, row += block.row_stride) {
        const W words = V::LoadWords(row);
        __builtin_prefetch(row + block.prefetch);
        F xs[kRows];
        for (int r = 0; r < kRows; ++r) xs[r] = V::Broadcast(x[r * ldx + k]);
        Unroll<8>([&](auto i) __attribute__((always_inline)) {
          const F w = V::Sub(V::template Nibble<i>(words), zeros[i]);
          for (int r = 0; r < kRows; ++r) sums[r][i] = V::Fma(xs[r], w, sums[r][i]);
        });
      }
      for (int i = 0; i < 8; ++i) {
        const F scale = V::LoadHalf(block.scales + i * kWords + c);
        for (int r = 0; r < kRows; ++r) {
          float* const total = totals + r * kTileAlongN + i * kWords + c;
          V::Store(total, V::Fma(scale, sums[r][i], V::Load(total)));
        }
      }
    }
  }

  // Calls `kernel<r>` for blocks of at most kBlock rows of x.
  template <int kBlock, int kTry = kBlock, typename Call>
  [[gnu::always_inline]] static inline void ForRowBlocks(int m, Call&& call) {
    int r = 0;
    for (; r + kBlock <= m; r += kBlock) call(std::integral_constant<int, kBlock>{}, r);
    Unroll<kBlock - 1>([&](auto i) {
      constexpr int kRest = kBlock - 1 - i;
      if (m - r == kRest) {
        call(std::integral_constant<int, kRest>{}, r);
        r += kRest;
      }
    });
  }

  static void DotK(const GroupBlock& block, int m, const float* x, std::ptrdiff_t ldx, float* totals) {
    ForRowBlocks<V::kDotRows>(m, [&](auto rows, int r) {
      DotAlongK<rows>(block, x + r * ldx, ldx, totals + static_cast<std::ptrdiff_t>(r) * kTileAlongK);
    });
  }
  static void DotN(const GroupBlock& block, int m, const float* x, std::ptrdiff_t ldx, float* totals) {
    ForRowBlocks<V::kAwqDotRows>(m, [&](auto rows, int r) {
      DotAlongN<rows>(block, x + r * ldx, ldx, totals + static_cast<std::ptrdiff_t>(r) * kTileAlongN);
    });
  }

  static void DecodeK(const GroupBlock& block, float* panel) {
    const std::uint32_t* row = block.words;
    for (int k = 0; k < block.rows; k += 8, row += block.row_stride) {
      float* const to = panel + static_cast<std::ptrdiff_t>(k) * kTileAlongK;
      for (int c = 0; c < kTileAlongK; c += V::kLanes) {
        const W words = V::LoadWords(row + c);
        __builtin_prefetch(row + c + block.prefetch);
        const F zeros = V::BiasedZeros(block.zeros + c);
        Unroll<8>([&](auto i) __attribute__((always_inline)) {
          V::Store(to + i * kTileAlongK + c, V::Sub(V::template Nibble<i>(words), zeros));
        });
      }
    }
  }

  static void DecodeN(const GroupBlock& block, float* panel) {
    constexpr int kWords = kTileAlongN / 8;
    for (int c = 0; c < kWords; c += V::kLanes) {
      F zeros[8];
      for (int i = 0; i < 8; ++i) zeros[i] = V::BiasedZeros(block.zeros + i * kWords + c);
      const std::uint32_t* row = block.words + c;
      for (int k = 0; k < block.rows; ++k, row += block.row_stride) {
        const W words = V::LoadWords(row);
        __builtin_prefetch(row + block.prefetch);
        float* const to = panel + static_cast<std::ptrdiff_t>(k) * kTileAlongN + c;
        Unroll<8>([&](auto i) __attribute__((always_inline)) {
          V::Store(to + i * kWords, V::Sub(V::template Nibble<i>(words), zeros[i]));
        });
      }
    }
  }

  template <int kRows, int kTile>
  static void PanelRows(const GroupBlock& block, const float* panel, const float* x, std::ptrdiff_t ldx,
                        float* totals) {
    constexpr int kVecs = V::kPanelVecs;
    for (int c = 0; c < kTile; c += kVecs * V::kLanes) {
      F sums[kRows][kVecs];
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVecs; ++v) sums[r][v] = V::Zero();
      }
      const float* w_row = panel + c;
      for (int k = 0; k < block.rows; ++k, w_row += kTile) {
        F w[kVecs];
        for (int v = 0; v < kVecs; ++v) w[v] = V::Load(w_row + v * V::kLanes);
        for (int r = 0; r < kRows; ++r) {
          const F xs = V::Broadcast(x[r * ldx + k]);
          for (int v = 0; v < kVecs; ++v) sums[r][v] = V::Fma(xs, w[v], sums[r][v]);
        }
      }
      AddScaled<kRows, kVecs>(sums, block.scales + c, totals + c, kTile);
    }
  }

  template <int kTile>
  static void MultiplyPanel(const GroupBlock& block, const float* panel, int m, const float* x, std::ptrdiff_t ldx,
                            float* totals) {
    ForRowBlocks<V::kPanelRows>(m, [&](auto rows, int r) {
      PanelRows<rows, kTile>(block, panel, x + r * ldx, ldx, totals + static_cast<std::ptrdiff_t>(r) * kTile);
    });
  }

  static void HalfToFloat(const std::uint16_t* from, float* to, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 8) V::LoadHalf8(from + i, to + i);
  }
  static void FloatToHalf(const float* from, std::uint16_t* to, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 8) V::StoreHalf8(from + i, to + i);
  }
  // The float32 sum of two halves, rounded to half, is the correctly rounded sum
  // of halves: 24 bits are at least 2 x 11 + 2 (Figueroa, When is double rounding
  // innocuous?, 1995).
  static void AccumulateHalf(const float* addend, std::uint16_t* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 8) V::AddHalf8(addend + i, y + i);
  }

  static const Microkernels& Table(WordLayout layout) {
    static constexpr Microkernels kAlongK = {DotK,        DecodeK,     MultiplyPanel<kTileAlongK>,
                                             HalfToFloat, FloatToHalf, AccumulateHalf};
    static constexpr Microkernels kAlongN = {DotN,        DecodeN,     MultiplyPanel<kTileAlongN>,
                                             HalfToFloat, FloatToHalf, AccumulateHalf};
    return layout == WordLayout::kAlongK ? kAlongK : kAlongN;
  }
};

}  // namespace
}  // namespace kernels::cpu

#endif  // KERNELS_CPU_MICROKERNELS_TEMPLATE_H_
