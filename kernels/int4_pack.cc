#include "kernels/int4_pack.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace kernels {
namespace {

constexpr std::uint32_t kOneInEveryNibble = 0x11111111u;

void CheckMultiple(const char* what, std::int64_t value, std::int64_t of) {
  if (value <= 0 || value % of != 0) {
    throw std::invalid_argument(std::string("int4 packing: ") + what + " = " + std::to_string(value) +
                                " is not a positive multiple of " + std::to_string(of));
  }
}

void CheckSize(const char* what, std::size_t actual, std::int64_t expected) {
  if (actual != static_cast<std::size_t>(expected)) {
    throw std::invalid_argument(std::string("int4 packing: ") + what + " has " + std::to_string(actual) +
                                " elements, its shape needs " + std::to_string(expected));
  }
}

// One OR over all codes instead of a branch for each.
void CheckCodes(std::span<const std::uint8_t> codes) {
  std::uint8_t all = 0;
  for (const std::uint8_t code : codes) all |= code;
  if (all > 15) throw std::invalid_argument("int4 packing: a code is above 15");
}

std::int64_t RoundUp(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Rows of n codes to rows of n / 8 words; position i of a word holds column order[i].
std::vector<std::int32_t> PackRows(std::span<const std::uint8_t> codes, std::int64_t rows, std::int64_t n,
                                   const int (&order)[8]) {
  CheckMultiple("n", n, 8);
  CheckSize("the matrix of codes", codes.size(), rows * n);
  CheckCodes(codes);
  std::vector<std::int32_t> words(static_cast<std::size_t>(rows * n / 8));
  for (std::size_t w = 0; w < words.size(); ++w) {
    std::uint32_t word = 0;
    for (int i = 0; i < 8; ++i) word |= static_cast<std::uint32_t>(codes[8 * w + order[i]]) << (4 * i);
    words[w] = static_cast<std::int32_t>(word);
  }
  return words;
}

std::vector<std::uint8_t> UnpackRows(std::span<const std::int32_t> words, std::int64_t rows, std::int64_t n,
                                     const int (&order)[8], std::uint32_t add) {
  CheckMultiple("n", n, 8);
  CheckSize("the matrix of words", words.size(), rows * n / 8);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * n));
  for (std::size_t w = 0; w < words.size(); ++w) {
    const std::uint32_t word = static_cast<std::uint32_t>(words[w]) + add;
    for (int i = 0; i < 8; ++i) codes[8 * w + order[i]] = static_cast<std::uint8_t>((word >> (4 * i)) & 15u);
  }
  return codes;
}

constexpr int kInOrder[8] = {0, 1, 2, 3, 4, 5, 6, 7};

// Where torchao's tile layout keeps the code of (k, n): word and shift.
// word [nt][ko][t][j] serves column 8 nt + t / 4 and rows kb + {0, 8, 16, 24}
// (bits 0, 4, 8, 12) and kb + 1 + {0, 8, 16, 24} (bits 16 ..), where
// kb = 128 ko + 32 j + 2 (t % 4): the operand order of mma.m16n8k16.
struct TilePosition {
  std::int64_t word;
  int shift;
};
TilePosition TorchaoPosition(std::int64_t k, std::int64_t n, std::int64_t padded_k) {
  const std::int64_t ko = k / 128;
  const std::int64_t j = k % 128 / 32;
  const int in32 = static_cast<int>(k % 32);
  const int step = in32 / 8;      // which of + {0, 8, 16, 24}
  const int pair = in32 % 8 / 2;  // t % 4
  const int odd = in32 % 2;
  const std::int64_t t = n % 8 * 4 + pair;
  return {((n / 8 * (padded_k / 128) + ko) * 32 + t) * 4 + j, 4 * step + 16 * odd};
}

void CheckTileWords(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n) {
  CheckMultiple("k", k, 1);
  CheckMultiple("n", n, 1);
  CheckSize("the matrix of words", words.size(), TorchaoPaddedN(n) * TorchaoPaddedK(k) / 8);
}

void CheckColumns(std::int64_t n, std::int64_t first, std::int64_t columns, std::int64_t of) {
  if (first >= 0 && first % of == 0 && columns > 0 && first + columns <= n) return;
  throw std::invalid_argument("int4 packing: columns " + std::to_string(first) + " to " +
                              std::to_string(first + columns) + " are not some of " + std::to_string(n) +
                              " from a multiple of " + std::to_string(of) + " on");
}

}  // namespace

std::vector<std::int32_t> PackAwq(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n) {
  return PackRows(codes, k, n, kAwqOrder);
}

std::vector<std::uint8_t> UnpackAwq(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n) {
  return UnpackRows(words, k, n, kAwqOrder, 0);
}

std::vector<std::int32_t> PackGptq(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n) {
  CheckMultiple("k", k, 8);
  CheckSize("the matrix of codes", codes.size(), k * n);
  CheckCodes(codes);
  std::vector<std::int32_t> words(static_cast<std::size_t>(k / 8 * n));
  for (std::int64_t row = 0; row < k / 8; ++row) {
    for (std::int64_t col = 0; col < n; ++col) {
      std::uint32_t word = 0;
      for (int i = 0; i < 8; ++i) word |= static_cast<std::uint32_t>(codes[(8 * row + i) * n + col]) << (4 * i);
      words[row * n + col] = static_cast<std::int32_t>(word);
    }
  }
  return words;
}

std::vector<std::uint8_t> UnpackGptq(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n) {
  CheckMultiple("k", k, 8);
  CheckSize("the matrix of words", words.size(), k / 8 * n);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k * n));
  for (std::int64_t row = 0; row < k / 8; ++row) {
    for (std::int64_t col = 0; col < n; ++col) {
      const auto word = static_cast<std::uint32_t>(words[row * n + col]);
      for (int i = 0; i < 8; ++i) {
        codes[(8 * row + i) * n + col] = static_cast<std::uint8_t>((word >> (4 * i)) & 15u);
      }
    }
  }
  return codes;
}

std::vector<std::int32_t> PackGptqZeros(std::span<const std::uint8_t> zeros, std::int64_t groups, std::int64_t n,
                                        bool v1) {
  std::vector<std::int32_t> words = PackRows(zeros, groups, n, kInOrder);
  if (v1) {
    for (std::int32_t& word : words) {
      word = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) - kOneInEveryNibble);
    }
  }
  return words;
}

std::vector<std::uint8_t> UnpackGptqZeros(std::span<const std::int32_t> words, std::int64_t groups, std::int64_t n,
                                          bool v1) {
  return UnpackRows(words, groups, n, kInOrder, v1 ? kOneInEveryNibble : 0);
}

std::int64_t TorchaoPaddedN(std::int64_t n) { return RoundUp(n, 8); }
std::int64_t TorchaoPaddedK(std::int64_t k) { return RoundUp(k, 1024); }

std::vector<std::int32_t> PackTorchaoTile(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n) {
  CheckMultiple("k", k, 1);
  CheckMultiple("n", n, 1);
  CheckSize("the matrix of codes", codes.size(), k * n);
  CheckCodes(codes);
  const std::int64_t padded_k = TorchaoPaddedK(k);
  std::vector<std::uint32_t> words(static_cast<std::size_t>(TorchaoPaddedN(n) * padded_k / 8));
  for (std::int64_t row = 0; row < k; ++row) {
    for (std::int64_t col = 0; col < n; ++col) {
      const TilePosition at = TorchaoPosition(row, col, padded_k);
      words[at.word] |= static_cast<std::uint32_t>(codes[row * n + col]) << at.shift;
    }
  }
  return {words.begin(), words.end()};
}

std::vector<std::uint8_t> UnpackTorchaoTile(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n) {
  CheckTileWords(words, k, n);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k * n));
  // Eight columns at a time, which a row of tiles holds.
  std::vector<std::int32_t> columns(static_cast<std::size_t>(8 * k));
  for (std::int64_t first = 0; first < n; first += 8) {
    const std::int64_t count = std::min<std::int64_t>(8, n - first);
    UnpackTorchaoTileColumns(words, k, n, first, count, columns.data());
    for (std::int64_t row = 0; row < k; ++row) {
      for (std::int64_t c = 0; c < count; ++c) {
        codes[row * n + first + c] = static_cast<std::uint8_t>(columns[c * k + row]);
      }
    }
  }
  return codes;
}

void UnpackTorchaoTileColumns(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n, std::int64_t first,
                              std::int64_t columns, std::int32_t* codes) {
  CheckTileWords(words, k, n);
  CheckColumns(n, first, columns, 8);
  const std::int64_t padded_k = TorchaoPaddedK(k);
  for (std::int64_t c = 0; c < columns; ++c) {
    std::int32_t* const to = codes + c * k;
    // Of one column and 32 rows, four words, which lie four apart; TorchaoPosition().
    const std::int32_t* const of_column = words.data() + TorchaoPosition(0, first + c, padded_k).word;
    for (std::int64_t row = 0; row < k; row += 32) {
      const std::int32_t* const of_rows = of_column + row / 128 * 128 + row % 128 / 32;
      const std::int64_t rows = std::min<std::int64_t>(32, k - row);
      std::int32_t values[32];
      for (int pair = 0; pair < 4; ++pair) {
        const auto word = static_cast<std::uint32_t>(of_rows[4 * pair]);
        for (int step = 0; step < 4; ++step) {
          values[8 * step + 2 * pair] = static_cast<std::int32_t>((word >> (4 * step)) & 15u);
          values[8 * step + 2 * pair + 1] = static_cast<std::int32_t>((word >> (4 * step + 16)) & 15u);
        }
      }
      std::copy_n(values, rows, to + row);
    }
  }
}

std::vector<std::int8_t> PackTorchaoPlain(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n) {
  CheckMultiple("k", k, 2);
  CheckSize("the matrix of codes", codes.size(), k * n);
  CheckCodes(codes);
  std::vector<std::int8_t> bytes(static_cast<std::size_t>(n * k / 2));
  for (std::int64_t row = 0; row < k; ++row) {
    for (std::int64_t col = 0; col < n; ++col) {
      // code - 8 in four bits is the code with its high bit flipped.
      const unsigned nibble = codes[row * n + col] ^ 8u;
      std::int8_t& byte = bytes[col * (k / 2) + row / 2];
      byte = static_cast<std::int8_t>(static_cast<std::uint8_t>(byte) | (nibble << (row % 2 * 4)));
    }
  }
  return bytes;
}

std::vector<std::uint8_t> UnpackTorchaoPlain(std::span<const std::int8_t> bytes, std::int64_t k, std::int64_t n) {
  std::vector<std::int32_t> column(static_cast<std::size_t>(k));
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k * n));
  for (std::int64_t col = 0; col < n; ++col) {
    UnpackTorchaoPlainColumns(bytes, k, n, col, 1, column.data());
    for (std::int64_t row = 0; row < k; ++row) codes[row * n + col] = static_cast<std::uint8_t>(column[row]);
  }
  return codes;
}

void UnpackTorchaoPlainColumns(std::span<const std::int8_t> bytes, std::int64_t k, std::int64_t n, std::int64_t first,
                               std::int64_t columns, std::int32_t* codes) {
  CheckMultiple("k", k, 2);
  CheckSize("the matrix of bytes", bytes.size(), n * k / 2);
  CheckColumns(n, first, columns, 1);
  const std::int8_t* const from = bytes.data() + first * (k / 2);
  for (std::int64_t i = 0; i < columns * (k / 2); ++i) {
    const auto byte = static_cast<std::uint8_t>(from[i]);
    codes[2 * i] = (byte & 15) ^ 8;
    codes[2 * i + 1] = (byte >> 4) ^ 8;
  }
}

}  // namespace kernels
