#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/microkernels.h"

// From here on, and only in this file: nothing above may be a template that
// another file instantiates too.
#pragma GCC target("avx512f,avx512bw,avx512vnni,fma,f16c,prefer-vector-width=512")
// g++ 12 takes the undefined pass-through operand of its own intrinsics for an
// uninitialized variable (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "kernels/cpu/microkernels_template.h"

namespace kernels::cpu {
namespace {

typedef std::int32_t Ints __attribute__((vector_size(64)));

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr int kDigitRows = 5, kVecs = 4;
  using F = __m512;
  using I = Ints;
  static I LoadInts(const void* p) { return (I)_mm512_loadu_si512(p); }
  static void StoreInts(void* p, I v) { _mm512_storeu_si512(p, (__m512i)v); }
  static void StoreBytes(std::int8_t* p, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)v));
  }
  static I BroadcastInt(std::int32_t v) { return (I)_mm512_set1_epi32(v); }
  static I Add(I a, I b) { return (I)_mm512_add_epi32((__m512i)a, (__m512i)b); }
  static I Min(I a, I b) { return (I)_mm512_min_epi32((__m512i)a, (__m512i)b); }
  static I Max(I a, I b) { return (I)_mm512_max_epi32((__m512i)a, (__m512i)b); }
  static I IfZero(I v) { return v == 0; }
  static std::int32_t SumOf(I v) { return _mm512_reduce_add_epi32((__m512i)v); }
  static std::int32_t MinOf(I v) { return _mm512_reduce_min_epi32((__m512i)v); }
  static std::int32_t MaxOf(I v) { return _mm512_reduce_max_epi32((__m512i)v); }
  static I ToInts(F v) { return (I)_mm512_cvtps_epi32(v); }
  static I BitsOf(F v) { return (I)v; }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F Broadcast(float x) { return _mm512_set1_ps(x); }
  static F FromInts(I v) { return _mm512_cvtepi32_ps((__m512i)v); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F LoadHalf(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static I Zeros(const std::uint8_t* p) {
    return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I TimesZeros(I zeros, std::int32_t number) {
    return (I)_mm512_madd_epi16((__m512i)zeros, _mm512_set1_epi32(number));
  }
  static __m512i Digits(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static I Dot(I acc, I low, I high, const std::int8_t* digits) {
    const __m512i sum = _mm512_dpbusd_epi32((__m512i)acc, (__m512i)low, Digits(digits));
    return (I)_mm512_dpbusd_epi32(sum, (__m512i)high, Digits(digits + 4));
  }
  static F RoundWide(const std::int32_t* sums, std::ptrdiff_t digit_stride, int count) {
    __m256 halves[2];
    for (int h = 0; h < 2; ++h) {
      __m512d value = _mm512_setzero_pd();
      for (int d = count - 1; d >= 0; --d) {
        const auto* const p = reinterpret_cast<const __m256i*>(sums + d * digit_stride + 8 * h);
        value = _mm512_fmadd_pd(value, _mm512_set1_pd(256), _mm512_cvtepi32_pd(_mm256_loadu_si256(p)));
      }
      halves[h] = _mm512_cvtpd_ps(value);
    }
    const __m512d low = _mm512_castpd256_pd512(_mm256_castps_pd(halves[0]));
    return _mm512_castpd_ps(_mm512_insertf64x4(low, _mm256_castps_pd(halves[1]), 1));
  }
  static void StoreHalf(F v, std::uint16_t* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void AddHalves(const std::uint16_t* addend, std::uint16_t* y) {
    StoreHalf(_mm512_add_ps(LoadHalf(y), LoadHalf(addend)), y);
  }
};

// Sums of halves as they are: a third of the instructions. CPUs with AMX have it.
__attribute__((target("avx512fp16"))) void AddHalvesFp16(const std::uint16_t* addend, std::uint16_t* y,
                                                         std::ptrdiff_t count) {
  constexpr std::ptrdiff_t kHalves = 32;
  std::ptrdiff_t i = 0;
  for (; i + kHalves <= count; i += kHalves) {
    _mm512_storeu_ph(y + i, _mm512_add_ph(_mm512_loadu_ph(y + i), _mm512_loadu_ph(addend + i)));
  }
  if (i < count) Loops<Avx512>::AddHalves(addend + i, y + i, count - i);
}

// --- AMX: registers of 16 rows of 64 bytes. Written as assembly, with memory as a
// clobber: g++ 12's own loads say nothing of what they read.

constexpr int kTileBytes = kTileRows * kStepRows;
constexpr int kAmxColumns = 16;  // of W in a register
constexpr int kAmxParts = kTileColumns / kAmxColumns;

template <int kTile>
void LoadTile(const void* p) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(std::ptrdiff_t{64}), "i"(kTile) : "memory");
}
template <int kTile>
void StoreTile(void* p) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(std::ptrdiff_t{64}), "i"(kTile) : "memory");
}
template <int kTile>
void ClearTile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
// 16 x 16 int32 += signed bytes of kA times signed bytes of kB.
template <int kSum, int kA, int kB>
void MultiplyTiles() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// Whoever used the thread before, oneDNN perhaps, finds its own settings again.
thread_local TileConfig settings_before;

void EnterAmx() {
  asm volatile("sttilecfg %0" : "=m"(settings_before));
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = kStepRows;
    config.rows[i] = kTileRows;
  }
  asm volatile("ldtilecfg %0" : : "m"(config));
}
void LeaveAmx() { asm volatile("ldtilecfg %0" : : "m"(settings_before)); }

// q - z as bytes, [step][part][kStepRows / 4][kAmxColumns][4]: registers of four
// consecutive k a column. Zero after the last row.
void UnpackAmx(const GroupBlock& block, void* panel) {
  auto* to = static_cast<std::uint8_t*>(panel);
  const __m512i mask = _mm512_set1_epi32(0x0F0F0F0F);
  __m512i zeros[kAmxParts];
  for (int part = 0; part < kAmxParts; ++part) {
    zeros[part] =
        _mm512_mullo_epi32((__m512i)Avx512::Zeros(block.zeros + part * kAmxColumns), _mm512_set1_epi32(0x01010101));
  }
  const std::uint32_t* from = block.words;
  for (int row = 0; row < block.rows / 8; ++row, from += kTileColumns) {
    std::uint8_t* const rows = to + row / 8 * kAmxParts * kTileBytes + row % 8 * 2 * kStepRows;
    for (int part = 0; part < kAmxParts; ++part) {
      const __m512i words = _mm512_loadu_si512(from + part * kAmxColumns);
      // The same rows of the next block: a tile's rows of all of K are one stream,
      // but not that of the tiles of a strip.
      __builtin_prefetch(from + block.rows / 8 * kTileColumns + part * kAmxColumns);
      std::uint8_t* const two_rows = rows + part * kTileBytes;
      const __m512i low = _mm512_sub_epi8(_mm512_and_si512(words, mask), zeros[part]);
      const __m512i high = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi32(words, 4), mask), zeros[part]);
      _mm512_storeu_si512(two_rows, low);
      _mm512_storeu_si512(two_rows + kStepRows, high);
    }
  }
  if (const int rest = block.rows % kStepRows; rest != 0) {
    to += (block.steps() - 1) * kAmxParts * kTileBytes;
    for (int part = 0; part < kAmxParts; ++part) {
      std::memset(to + part * kTileBytes + rest / 4 * kStepRows, 0,
                  static_cast<std::size_t>(kTileBytes - rest / 4 * kStepRows));
    }
  }
}

// Registers 0 ... kCount - 1 = the sums of so many digits, from `digit` on.
template <int kCount>
void MultiplyDigits(const RowTile& tile, int digit, const std::uint8_t* panel, int steps) {
  ClearTile<0>();
  if constexpr (kCount > 1) ClearTile<1>();
  if constexpr (kCount > 2) ClearTile<2>();
  if constexpr (kCount > 3) ClearTile<3>();
  for (int step = 0; step < steps; ++step) {
    const std::int8_t* const x = tile.digits + (step * kMaxDigits + digit) * kTileBytes;
    LoadTile<7>(panel + step * kAmxParts * kTileBytes);
    LoadTile<4>(x);
    MultiplyTiles<0, 4, 7>();
    if constexpr (kCount > 1) {
      LoadTile<5>(x + kTileBytes);
      MultiplyTiles<1, 5, 7>();
    }
    if constexpr (kCount > 2) {
      LoadTile<6>(x + 2 * kTileBytes);
      MultiplyTiles<2, 6, 7>();
    }
    if constexpr (kCount > 3) {
      LoadTile<4>(x + 3 * kTileBytes);
      MultiplyTiles<3, 4, 7>();
    }
  }
}
void MultiplyDigits(int count, const RowTile& tile, int digit, const std::uint8_t* panel, int steps) {
  switch (count) {
    case 1:
      return MultiplyDigits<1>(tile, digit, panel, steps);
    case 2:
      return MultiplyDigits<2>(tile, digit, panel, steps);
    case 3:
      return MultiplyDigits<3>(tile, digit, panel, steps);
    default:
      return MultiplyDigits<4>(tile, digit, panel, steps);
  }
}
// A quarter of a tile's digits, for one of the kAmxParts products before it.
void Prefetch(const RowTile& tile, int part, int steps) {
  for (int step = 0; step < steps; ++step) {
    const std::int8_t* const digits = tile.digits + step * kMaxDigits * kTileBytes;
    for (int i = part * tile.count * kTileRows / kAmxParts; i < (part + 1) * tile.count * kTileRows / kAmxParts; ++i) {
      __builtin_prefetch(digits + i * kStepRows);
    }
  }
}
void StoreSums(int count, std::int32_t* sums) {
  constexpr int kInts = kTileRows * kAmxColumns;
  StoreTile<0>(sums);
  if (count > 1) StoreTile<1>(sums + kInts);
  if (count > 2) StoreTile<2>(sums + 2 * kInts);
  if (count > 3) StoreTile<3>(sums + 3 * kInts);
}

void MultiplyPanelAmx(const GroupBlock& block, const void* panel, const RowTile* tiles, int tile_count, float* totals,
                      std::uint16_t* halves) {
  constexpr int kInRegisters = 4;
  alignas(64) std::int32_t sums[2][kMaxDigits * kTileRows * kAmxColumns];
  alignas(64) float scales[kTileColumns];
  Loops<Avx512>::LoadScales(block.scales, scales);
  const int steps = block.steps();
  const auto add = [&](int i) {
    const RowTile& tile = tiles[i / kAmxParts];
    const int part = i % kAmxParts * kAmxColumns;
    Loops<Avx512>::AddRows(tile, sums[i % 2], kAmxColumns, kAmxColumns, scales + part, totals + part,
                           halves == nullptr ? nullptr : halves + part);
  };
  // While the tile unit multiplies, the vector units round and add what it
  // multiplied before.
  const int products = tile_count * kAmxParts;
  for (int i = 0; i < products; ++i) {
    const RowTile& tile = tiles[i / kAmxParts];
    const std::uint8_t* const part = static_cast<const std::uint8_t*>(panel) + i % kAmxParts * kTileBytes;
    const int count = tile.count < kInRegisters ? tile.count : kInRegisters;
    MultiplyDigits(count, tile, 0, part, steps);
    Prefetch(tiles[(i / kAmxParts + 1) % tile_count], i % kAmxParts, steps);
    if (i > 0) add(i - 1);
    StoreSums(count, sums[i % 2]);
    if (tile.count > kInRegisters) {
      MultiplyDigits(tile.count - kInRegisters, tile, kInRegisters, part, steps);
      StoreSums(tile.count - kInRegisters, sums[i % 2] + kInRegisters * kTileRows * kAmxColumns);
    }
  }
  add(products - 1);
}

}  // namespace

const Microkernels& Avx512Microkernels() { return Loops<Avx512>::Table(); }

const Microkernels& AmxMicrokernels() {
  static const Microkernels table = [] {
    Microkernels amx = Avx512Microkernels();
    if (__builtin_cpu_supports("avx512fp16")) amx.add_halves = AddHalvesFp16;
    amx.unpack = UnpackAmx;
    amx.multiply_panel = MultiplyPanelAmx;
    amx.full_tiles = true;
    amx.enter = EnterAmx;
    amx.leave = LeaveAmx;
    return amx;
  }();
  return table;
}

}  // namespace kernels::cpu
