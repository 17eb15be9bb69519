// The loops of microkernels.h over a class V of vector operations: kLanes, I (that
// many int32) and F (floats), with +, -, &, |, << and >> by the compiler; LoadInts,
// StoreInts, StoreBytes (the low ones), BroadcastInt, Add (modulo 2^32), Min, Max,
// IfZero (all bits where it is, else none), SumOf, MinOf, MaxOf (the lanes), Load, Store, Broadcast, FromInts,
// ToInts, BitsOf, Mul, Fma, LoadHalf; Zeros (a byte a
// lane), TimesZeros (z times the low 16 bits of a number), Dot (eight codes, in the
// bytes of two vectors, times eight digits), RoundWide (sums of five or six digits,
// added in float64, which holds their 51 bits, to a float); StoreHalf, AddHalves.
#ifndef KERNELS_CPU_MICROKERNELS_TEMPLATE_H_
#define KERNELS_CPU_MICROKERNELS_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/microkernels.h"

namespace kernels::cpu {
namespace {

// What the codes of a block are read from: its words, or a panel of the four lower
// and the four upper codes of each word, [rows / 8][2][kTileColumns][4].
template <class V>
struct WordSource {
  const std::uint32_t* words;
  template <int kV>
  void Load(int row, int column, typename V::I (&low)[kV], typename V::I (&high)[kV]) const {
    for (int v = 0; v < kV; ++v) {
      const typename V::I codes = V::LoadInts(words + row * kTileColumns + column + v * V::kLanes);
      low[v] = codes & 0x0F0F0F0F;
      high[v] = (codes >> 4) & 0x0F0F0F0F;
    }
  }
};
template <class V>
struct PanelSource {
  const std::uint32_t* panel;
  template <int kV>
  void Load(int row, int column, typename V::I (&low)[kV], typename V::I (&high)[kV]) const {
    for (int v = 0; v < kV; ++v) {
      low[v] = V::LoadInts(panel + 2 * row * kTileColumns + column + v * V::kLanes);
      high[v] = V::LoadInts(panel + (2 * row + 1) * kTileColumns + column + v * V::kLanes);
    }
  }
};

template <class V>
struct Loops {
  using F = typename V::F;
  using I = typename V::I;

  // --- x to digits

  // `rows` halves with zeros up to a whole vector: x itself, or a copy.
  static const std::uint16_t* WholeVectors(const std::uint16_t* x, int rows, std::uint16_t (&copy)[kMaxBlockRows]) {
    if (rows % V::kLanes == 0) return x;
    for (int i = 0; i < kMaxBlockRows; ++i) copy[i] = i < rows ? x[i] : std::uint16_t{0};
    return copy;
  }

  static RowInBlock Measure(const std::uint16_t* x, int rows) {
    constexpr std::int32_t kMantissa = 0x7FFFFF, kHiddenBit = 0x800000, kInfinity = 0x7F800000, kNone = 1 << 10;
    std::uint16_t copy[kMaxBlockRows];
    x = WholeVectors(x, rows, copy);
    I largest = V::BroadcastInt(0), lowest = V::BroadcastInt(2 * kNone);
    for (int i = 0; i < rows; i += V::kLanes) {
      const I bits = V::BitsOf(V::LoadHalf(x + i)) & 0x7FFFFFFF;
      largest = V::Max(largest, bits);
      // The last bit of the mantissa that is set, as a power of two, whose exponent
      // tells its place. A half that is not zero is a normal float.
      const I mantissa = (bits & kMantissa) | kHiddenBit;
      const I place = (bits >> 23) + (V::BitsOf(V::FromInts(mantissa & -mantissa)) >> 23);
      lowest = V::Min(lowest, place + (V::IfZero(bits) & kNone));
    }
    const std::int32_t low = V::MinOf(lowest), high = V::MaxOf(largest);

    RowInBlock row;
    row.finite = high < kInfinity;
    if (high == 0 || !row.finite) return row;
    // place = (exponent + 127) + (bit of the mantissa + 127); the bit weighs 2^(exponent + bit - 23).
    row.lowest_bit = low - 2 * 127 - 23 + 24;
    const int up = (high >> 23) - 127 - 23 + 24 - row.lowest_bit;
    const auto top = static_cast<std::int64_t>((high & kMantissa) | kHiddenBit);
    const std::int64_t most = up >= 0 ? top << up : top >> -up;
    // The magnitudes that so many balanced digits hold: 127 (1 + 256 + ...).
    for (std::int64_t holds = 127; holds < most; holds = holds * 256 + 127) ++row.count;
    return row;
  }

  // biased: numbers whose byte at `shift` is the digit plus 128; whole vectors.
  static void StoreDigit(const std::int32_t* biased, int rows, int shift, const RowTile& tile, int digit, int row) {
    I sum = V::BroadcastInt(0);
    for (int step = 0; step * kStepRows < rows; ++step) {
      std::int8_t* const to = tile.digits + ((step * kMaxDigits + digit) * tile.height + row) * kStepRows;
      const int count = rows - step * kStepRows < kStepRows ? rows - step * kStepRows : kStepRows;
      int i = 0;
      for (; i < count; i += V::kLanes) {
        const I digit_of = ((V::LoadInts(biased + step * kStepRows + i) >> shift) & 255) - 128;
        sum = sum + digit_of;
        V::StoreBytes(to + i, digit_of);
      }
      for (; i < kStepRows; ++i) to[i] = 0;
    }
    tile.minus_sums[digit * tile.height + row] = -V::SumOf(sum) & 0xFFFF;
  }

  static void Split(const std::uint16_t* x, int rows, const RowInBlock& as, const RowTile& tile, int row) {
    const std::int32_t unit_bits = (as.lowest_bit - 24 + 127) << 23, inverse_bits = (24 - as.lowest_bit + 127) << 23;
    float inverse;
    std::memcpy(tile.units + row, &unit_bits, sizeof unit_bits);
    std::memcpy(&inverse, &inverse_bits, sizeof inverse);
    constexpr int kInInts = 4;  // digits
    int digit = 0;
    if (as.finite) {
      std::uint16_t copy[kMaxBlockRows];
      x = WholeVectors(x, rows, copy);
      // Adding 128 to every digit makes them the bytes of an unsigned number.
      std::int32_t biased[kMaxBlockRows];
      if (as.count <= kInInts) {
        const I bias = V::BroadcastInt(static_cast<std::int32_t>(0x80808080));
        const F scale = V::Broadcast(inverse);
        for (int i = 0; i < rows; i += V::kLanes) {
          V::StoreInts(biased + i, V::Add(V::ToInts(V::Mul(V::LoadHalf(x + i), scale)), bias));
        }
      } else {
        std::int32_t upper[kMaxBlockRows] = {};
        float widened[kMaxBlockRows];
        for (int i = 0; i < rows; i += V::kLanes) V::Store(widened + i, V::LoadHalf(x + i));
        for (int i = 0; i < rows; ++i) {
          const std::int64_t bits = static_cast<std::int64_t>(double{widened[i]} * inverse) + 0x808080808080;
          biased[i] = static_cast<std::int32_t>(bits);
          upper[i] = static_cast<std::int32_t>(bits >> 32);
        }
        for (int i = rows; i % V::kLanes != 0; ++i) {  // zeros
          biased[i] = static_cast<std::int32_t>(0x80808080);
          upper[i] = 0x8080;
        }
        for (int d = kInInts; d < as.count; ++d) StoreDigit(upper, rows, 8 * (d - kInInts), tile, d, row);
      }
      for (; digit < as.count && digit < kInInts; ++digit) StoreDigit(biased, rows, 8 * digit, tile, digit, row);
      digit = as.count;
    }
    // Digits that only other rows need.
    for (; digit < tile.count; ++digit) ClearDigit((rows + kStepRows - 1) / kStepRows, tile, digit, row);
  }

  static void ClearDigit(int steps, const RowTile& tile, int digit, int row) {
    tile.minus_sums[digit * tile.height + row] = 0;
    for (int step = 0; step < steps; ++step) {
      std::memset(tile.digits + ((step * kMaxDigits + digit) * tile.height + row) * kStepRows, 0, kStepRows);
    }
  }

  // --- sums of digits times codes

  // sums[d, c] for kD rows of digits and kV vectors of columns from `column` on.
  template <int kD, int kV, class Source>
  static void Sum(const GroupBlock& block, const Source& source, const std::int8_t* digits, std::ptrdiff_t step_stride,
                  const std::int32_t* minus_sums, int column, std::int32_t* sums) {
    I acc[kD][kV];
    for (int v = 0; v < kV; ++v) {
      const I zeros = V::Zeros(block.zeros + column + v * V::kLanes);
      for (int d = 0; d < kD; ++d) acc[d][v] = V::TimesZeros(zeros, minus_sums[d]);
    }
    for (int row = 0; row < block.rows / 8; ++row) {
      const std::int8_t* const x = digits + row / (kStepRows / 8) * step_stride + row % (kStepRows / 8) * 8;
      I low[kV], high[kV];
      source.template Load<kV>(row, column, low, high);
      for (int d = 0; d < kD; ++d) {
        for (int v = 0; v < kV; ++v) acc[d][v] = V::Dot(acc[d][v], low[v], high[v], x + d * kStepRows);
      }
    }
    for (int d = 0; d < kD; ++d) {
      for (int v = 0; v < kV; ++v) V::StoreInts(sums + d * kTileColumns + v * V::kLanes, acc[d][v]);
    }
  }

  template <int kD, class Source>
  static void SumColumns(const GroupBlock& block, const Source& source, const RowTile& tile, int first,
                         std::int32_t* sums) {
    for (int c = 0; c < kTileColumns; c += V::kVecs * V::kLanes) {
      Sum<kD, V::kVecs>(block, source, tile.digits + first * kStepRows, kMaxDigits * tile.height * kStepRows,
                        tile.minus_sums + first, c, sums + first * kTileColumns + c);
    }
  }

  template <class Source, int... kRest>
  static void SumRest(const GroupBlock& block, const Source& source, const RowTile& tile, int first, int rest,
                      std::int32_t* sums, std::integer_sequence<int, kRest...>) {
    (void)((rest == kRest + 1 && (SumColumns<kRest + 1>(block, source, tile, first, sums), true)) || ...);
  }

  // sums: [tile.count * tile.height, kTileColumns]: a digit of a row is a row here.
  template <class Source>
  static void SumTile(const GroupBlock& block, const Source& source, const RowTile& tile, std::int32_t* sums) {
    const int rows = tile.count * tile.height;
    int first = 0;
    for (; first + V::kDigitRows <= rows; first += V::kDigitRows) {
      SumColumns<V::kDigitRows>(block, source, tile, first, sums);
    }
    SumRest(block, source, tile, first, rows - first, sums, std::make_integer_sequence<int, V::kDigitRows - 1>{});
  }

  // --- digits' sums to a float

  // The sum of up to four digits' sums, rounded once. A digit's sum is at most
  // 128 * 128 * 15 < 2^18. Up to two digits fit 31 bits; of more, the low 16 or 20
  // bits and those above are floats each, exactly, and one fused multiply-add
  // rounds their sum.
  template <int kCount>
  static F Round(const std::int32_t* sums, std::ptrdiff_t digit_stride) {
    const I s0 = V::LoadInts(sums);
    if constexpr (kCount == 1) return V::FromInts(s0);
    const I low = s0 + (V::LoadInts(sums + (kCount > 1 ? digit_stride : 0)) << 8);
    if constexpr (kCount == 2) return V::FromInts(low);
    I high = V::LoadInts(sums + (kCount > 2 ? 2 * digit_stride : 0)) + (low >> 16);
    if constexpr (kCount == 3) return V::Fma(V::FromInts(high), V::Broadcast(0x1p16F), V::FromInts(low & 0xFFFF));
    high = high + (V::LoadInts(sums + (kCount > 3 ? 3 * digit_stride : 0)) << 8);
    return V::Fma(V::FromInts(high >> 4), V::Broadcast(0x1p20F), V::FromInts((low & 0xFFFF) | ((high & 15) << 16)));
  }

  // For the rows of a tile, totals[place, c] = fma(scale, value of the digits' sums,
  // totals[place, c]), or halves[place, c] = half(scale * value).
  template <int kCount, bool kToHalf>
  static void AddRows(const RowTile& tile, const std::int32_t* sums, std::ptrdiff_t row_stride, int columns,
                      const float* scales, float* totals, std::uint16_t* halves) {
    const std::ptrdiff_t digit_stride = tile.height * row_stride;
    for (int r = 0; r < tile.rows; ++r) {
      const std::int32_t* const from = sums + r * row_stride;
      const std::ptrdiff_t to = tile.places[r] * kTileColumns;
      const F unit = V::Broadcast(tile.units[r]);
      for (int c = 0; c < columns; c += V::kLanes) {
        F value;
        if constexpr (kCount <= 4) {
          value = Round<kCount>(from + c, digit_stride);
        } else {
          value = V::RoundWide(from + c, digit_stride, kCount);
        }
        // A power of two times a half changes no bit of either.
        const F scale = V::Mul(V::Load(scales + c), unit);
        if constexpr (kToHalf) {
          V::StoreHalf(V::Fma(scale, value, V::Broadcast(0)), halves + to + c);
        } else {
          V::Store(totals + to + c, V::Fma(scale, value, V::Load(totals + to + c)));
        }
      }
    }
  }
  template <bool kToHalf>
  static void AddRows(const RowTile& tile, const std::int32_t* sums, std::ptrdiff_t row_stride, int columns,
                      const float* scales, float* totals, std::uint16_t* halves) {
    switch (tile.count) {
      case 1:
        return AddRows<1, kToHalf>(tile, sums, row_stride, columns, scales, totals, halves);
      case 2:
        return AddRows<2, kToHalf>(tile, sums, row_stride, columns, scales, totals, halves);
      case 3:
        return AddRows<3, kToHalf>(tile, sums, row_stride, columns, scales, totals, halves);
      case 4:
        return AddRows<4, kToHalf>(tile, sums, row_stride, columns, scales, totals, halves);
      case 5:
        return AddRows<5, kToHalf>(tile, sums, row_stride, columns, scales, totals, halves);
      default:
        return AddRows<6, kToHalf>(tile, sums, row_stride, columns, scales, totals, halves);
    }
  }
  static void AddRows(const RowTile& tile, const std::int32_t* sums, std::ptrdiff_t row_stride, int columns,
                      const float* scales, float* totals, std::uint16_t* halves) {
    if (halves != nullptr) {
      AddRows<true>(tile, sums, row_stride, columns, scales, totals, halves);
    } else {
      AddRows<false>(tile, sums, row_stride, columns, scales, totals, halves);
    }
  }

  static void LoadScales(const std::uint16_t* scales, float (&to)[kTileColumns]) {
    for (int c = 0; c < kTileColumns; c += V::kLanes) V::Store(to + c, V::LoadHalf(scales + c));
  }

  // --- the table's functions

  static void Dot(const GroupBlock& block, const RowTile& tile, float* totals, std::uint16_t* halves) {
    alignas(64) std::int32_t sums[kMaxDigits * kMaxDotRows * kTileColumns];
    alignas(64) float scales[kTileColumns];
    LoadScales(block.scales, scales);
    SumTile(block, WordSource<V>{block.words}, tile, sums);
    AddRows(tile, sums, kTileColumns, kTileColumns, scales, totals, halves);
  }

  static void Unpack(const GroupBlock& block, void* panel) {
    auto* const to = static_cast<std::uint32_t*>(panel);
    for (int row = 0; row < block.rows / 8; ++row) {
      for (int c = 0; c < kTileColumns; c += V::kLanes) {
        I low[1], high[1];
        WordSource<V>{block.words}.template Load<1>(row, c, low, high);
        V::StoreInts(to + 2 * row * kTileColumns + c, low[0]);
        V::StoreInts(to + (2 * row + 1) * kTileColumns + c, high[0]);
      }
    }
  }

  static void MultiplyPanel(const GroupBlock& block, const void* panel, const RowTile* tiles, int tile_count,
                            float* totals, std::uint16_t* halves) {
    alignas(64) std::int32_t sums[kMaxDigits * kTileRows * kTileColumns];
    alignas(64) float scales[kTileColumns];
    LoadScales(block.scales, scales);
    for (int t = 0; t < tile_count; ++t) {
      SumTile(block, PanelSource<V>{static_cast<const std::uint32_t*>(panel)}, tiles[t], sums);
      AddRows(tiles[t], sums, kTileColumns, kTileColumns, scales, totals, halves);
    }
  }

  // Columns of a tile are a multiple of 8, vectors may be longer.
  static void FloatToHalf(const float* from, std::uint16_t* to, std::ptrdiff_t count) {
    std::ptrdiff_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) V::StoreHalf(V::Load(from + i), to + i);
    if (i == count) return;
    float rest[V::kLanes] = {};
    std::uint16_t halves[V::kLanes];
    std::memcpy(rest, from + i, static_cast<std::size_t>(count - i) * sizeof(float));
    V::StoreHalf(V::Load(rest), halves);
    std::memcpy(to + i, halves, static_cast<std::size_t>(count - i) * sizeof(std::uint16_t));
  }
  // The float32 sum of two halves, rounded to half, is the correctly rounded sum
  // of halves: 24 bits are at least 2 x 11 + 2 (Figueroa, When is double rounding
  // innocuous?, 1995).
  static void AddHalves(const std::uint16_t* addend, std::uint16_t* y, std::ptrdiff_t count) {
    std::ptrdiff_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) V::AddHalves(addend + i, y + i);
    if (i == count) return;
    std::uint16_t rest[V::kLanes] = {}, sums[V::kLanes] = {};
    std::memcpy(rest, addend + i, static_cast<std::size_t>(count - i) * sizeof(std::uint16_t));
    std::memcpy(sums, y + i, static_cast<std::size_t>(count - i) * sizeof(std::uint16_t));
    V::AddHalves(rest, sums);
    std::memcpy(y + i, sums, static_cast<std::size_t>(count - i) * sizeof(std::uint16_t));
  }

  static const Microkernels& Table() {
    static constexpr Microkernels kTable = {Measure,
                                            Split,
                                            Dot,
                                            Unpack,
                                            MultiplyPanel,
                                            /*full_tiles=*/false,
                                            nullptr,
                                            nullptr,
                                            FloatToHalf,
                                            AddHalves};
    return kTable;
  }
};

}  // namespace
}  // namespace kernels::cpu

#endif  // KERNELS_CPU_MICROKERNELS_TEMPLATE_H_
