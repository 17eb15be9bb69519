#include "suites/quantize/layer_encoder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "kernels/int4_pack.h"
#include "suites/quantize/half.h"

namespace suites::quantize {
namespace {

// Numbers in memory that is not set beforehand.
template <typename T>
class Numbers {
 public:
  explicit Numbers(std::int64_t count) : bytes_(static_cast<std::size_t>(count) * sizeof(T)) {}
  T* data() { return reinterpret_cast<T*>(bytes_.data()); }
  T& operator[](std::int64_t i) { return data()[i]; }
  Bytes Take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

// Copies a [rows, columns] block into a matrix that is `width` wide.
template <typename T>
void PutBlock(T* matrix, std::int64_t width, std::int64_t column, const std::vector<T>& block, std::int64_t columns) {
  const auto rows = static_cast<std::int64_t>(block.size()) / columns;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy_n(block.begin() + r * columns, columns, matrix + r * width + column);
  }
}

std::vector<std::uint8_t> ZerosByGroup(const Tile& tile) {  // [groups, rows]
  std::vector<std::uint8_t> zeros(tile.scales.size());
  for (std::int64_t g = 0; g < tile.groups; ++g) {
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      zeros[g * tile.rows + r] = static_cast<std::uint8_t>(tile.scales[r * tile.groups + g].zero);
    }
  }
  return zeros;
}

// What AWQ and GPTQ have for each group: zero points in words I32 [K/G, N/8], and
// scales F16 [K/G, N].
struct GroupTensors {
  GroupTensors(std::int64_t groups, std::int64_t outputs) : n(outputs), zeros(groups * n / 8), scales(groups * n) {}

  // packed: the words of the tile's zero points, [groups, rows / 8].
  void Put(const Tile& tile, const std::vector<std::int32_t>& packed) {
    PutBlock(zeros.data(), n / 8, tile.n0 / 8, packed, tile.rows / 8);
    for (std::int64_t g = 0; g < tile.groups; ++g) {
      for (std::int64_t r = 0; r < tile.rows; ++r) {
        scales[g * n + tile.n0 + r] = tile.scales[r * tile.groups + g].scale;
      }
    }
  }

  std::int64_t n;
  Numbers<std::int32_t> zeros;
  Numbers<std::uint16_t> scales;
};

// In file order.
template <class... T>
std::vector<Bytes> TakeAll(Numbers<T>&... tensors) {
  std::vector<Bytes> taken;
  (taken.push_back(tensors.Take()), ...);
  return taken;
}

std::uint64_t EightCodes(const std::uint8_t* codes) {
  std::uint64_t eight;
  std::memcpy(&eight, codes, sizeof eight);
  return eight;
}

// Words of I32 [K, N/8]: eight outputs of one input each, in AWQ's order.
class AwqEncoder final : public LayerEncoder {
 public:
  AwqEncoder(std::int64_t k, std::int64_t n, std::int64_t group) : n_(n), words_(k * n / 8), groups_(k / group, n) {}

  void Put(const Tile& tile) override {
    constexpr std::int64_t kInputs = 64;
    std::array<std::uint32_t, kTileRows / 8 * kInputs> block;  // [word, input]
    for (std::int64_t k0 = 0; k0 < tile.k; k0 += kInputs) {
      const std::int64_t inputs = std::min(kInputs, tile.k - k0);
      for (std::int64_t w = 0; w < tile.rows / 8; ++w) {
        std::uint32_t* words = block.data() + w * kInputs;
        std::fill_n(words, inputs, 0u);
        for (int place = 0; place < 8; ++place) {
          const std::uint8_t* codes = tile.codes.data() + (8 * w + kernels::kAwqOrder[place]) * tile.stride + k0;
          for (std::int64_t i = 0; i < inputs; ++i) words[i] |= std::uint32_t{codes[i]} << (4 * place);
        }
      }
      for (std::int64_t i = 0; i < inputs; ++i) {
        std::uint32_t* out = words_.data() + (k0 + i) * (n_ / 8) + tile.n0 / 8;
        for (std::int64_t w = 0; w < tile.rows / 8; ++w) out[w] = block[w * kInputs + i];
      }
    }
    groups_.Put(tile, kernels::PackAwq(ZerosByGroup(tile), tile.groups, tile.rows));
  }

  std::vector<Bytes> Take() override { return TakeAll(words_, groups_.zeros, groups_.scales); }

 private:
  std::int64_t n_;
  Numbers<std::uint32_t> words_;
  GroupTensors groups_;
};

// Words of I32 [K/8, N]: eight inputs of one output each, in order.
class GptqEncoder final : public LayerEncoder {
 public:
  GptqEncoder(std::int64_t k, std::int64_t n, std::int64_t group)
      : n_(n), g_idx_(k), words_(k * n / 8), groups_(k / group, n) {
    for (std::int64_t i = 0; i < k; ++i) g_idx_[i] = static_cast<std::int32_t>(i / group);
  }

  void Put(const Tile& tile) override {
    for (std::int64_t k8 = 0; k8 < tile.k / 8; ++k8) {
      std::uint32_t* out = words_.data() + k8 * n_ + tile.n0;
      for (std::int64_t r = 0; r < tile.rows; ++r) {
        // Byte i becomes nibble i: neighbours are pushed together three times.
        std::uint64_t x = EightCodes(tile.codes.data() + r * tile.stride + 8 * k8);
        x = (x | (x >> 4)) & 0x00ff00ff00ff00ff;
        x = (x | (x >> 8)) & 0x0000ffff0000ffff;
        out[r] = static_cast<std::uint32_t>(x | (x >> 16));
      }
    }
    groups_.Put(tile, kernels::PackGptqZeros(ZerosByGroup(tile), tile.groups, tile.rows, /*v1=*/true));
  }

  std::vector<Bytes> Take() override { return TakeAll(g_idx_, words_, groups_.zeros, groups_.scales); }

 private:
  std::int64_t n_;
  Numbers<std::int32_t> g_idx_;
  Numbers<std::uint32_t> words_;
  GroupTensors groups_;
};

// The tiles of kernels::PackTorchaoTile(): word [n / 8][k / 128][4 (n % 8) + p][j]
// holds of the 32 inputs from 128 (k / 128) + 32 j on the even ones 8 s + 2 p in
// its lower half, s = 0..3, and the odd ones behind them in its upper half.
class TorchaoEncoder final : public LayerEncoder {
 public:
  TorchaoEncoder(std::int64_t k, std::int64_t n, std::int64_t group)
      : padded_k_(kernels::TorchaoPaddedK(k)), n_(n), words_(padded_k_ * n / 8), scales_(padded_k_ / group * n * 2) {
    // Padding holds code 0: (0 - 8) * 1 + 8 is zero.
    for (std::int64_t i = k / group * n * 2; i < padded_k_ / group * n * 2; i += 2) {
      scales_[i] = BFloat16FromFloat(1.0f);
      scales_[i + 1] = BFloat16FromFloat(8.0f);
    }
  }

  void Put(const Tile& tile) override {
    const std::int64_t words_of_output = padded_k_ / 8;
    if (tile.k != padded_k_) {
      std::fill_n(words_.data() + tile.n0 * words_of_output, tile.rows * words_of_output, 0u);
    }
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const std::int64_t n = tile.n0 + r;
      std::uint32_t* eight_outputs = words_.data() + n / 8 * 8 * words_of_output;
      for (std::int64_t block = 0; block < tile.k / 32; ++block) {
        const std::uint8_t* codes = tile.codes.data() + r * tile.stride + 32 * block;
        // Byte i of `low`: inputs i and 8 + i; of `high`: 16 + i and 24 + i.
        const std::uint64_t low = EightCodes(codes) | (EightCodes(codes + 8) << 4);
        const std::uint64_t high = EightCodes(codes + 16) | (EightCodes(codes + 24) << 4);
        std::uint32_t* out = eight_outputs + (block / 4 * 32 + n % 8 * 4) * 4 + block % 4;
        for (int p = 0; p < 4; ++p) {
          const std::uint64_t even_odd_low = low >> (16 * p), even_odd_high = high >> (16 * p);
          out[4 * p] = static_cast<std::uint32_t>((even_odd_low & 0xff) | ((even_odd_high & 0xff) << 8) |
                                                  ((even_odd_low & 0xff00) << 8) | ((even_odd_high & 0xff00) << 16));
        }
      }
      for (std::int64_t g = 0; g < tile.groups; ++g) {
        const GroupScale& scale = tile.scales[r * tile.groups + g];
        scales_[(g * n_ + n) * 2] = scale.scale;
        scales_[(g * n_ + n) * 2 + 1] = scale.zero;
      }
    }
  }

  std::vector<Bytes> Take() override { return TakeAll(words_, scales_); }

 private:
  std::int64_t padded_k_, n_;
  Numbers<std::uint32_t> words_;
  Numbers<std::uint16_t> scales_;
};

// Nibbles in the order of the elements, the first in the low half of a byte.
class OpenVinoEncoder final : public LayerEncoder {
 public:
  OpenVinoEncoder(std::int64_t k, std::int64_t n, std::int64_t group)
      : codes_(k * n / 2), zeros_((k / group * n + 1) / 2), scales_(k / group * n) {
    std::fill_n(zeros_.data(), (k / group * n + 1) / 2, std::uint8_t{0});
  }

  void Put(const Tile& tile) override {
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const std::uint8_t* codes = tile.codes.data() + r * tile.stride;
      std::uint8_t* out = codes_.data() + (tile.n0 + r) * tile.k / 2;
      for (std::int64_t i = 0; i < tile.k; i += 2) {
        out[i / 2] = static_cast<std::uint8_t>(codes[i] | (codes[i + 1] << 4));
      }
    }
    const std::int64_t first = tile.n0 * tile.groups;  // even: tiles begin at multiples of kTileRows
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(tile.scales.size()); ++i) {
      scales_[first + i] = tile.scales[i].scale;
      zeros_[(first + i) / 2] |= static_cast<std::uint8_t>(tile.scales[i].zero << ((first + i) % 2 * 4));
    }
  }

  std::vector<Bytes> Take() override { return TakeAll(codes_, zeros_, scales_); }

 private:
  Numbers<std::uint8_t> codes_, zeros_;
  Numbers<std::uint16_t> scales_;
};

}  // namespace

std::unique_ptr<LayerEncoder> MakeLayerEncoder(OutputFormat format, std::int64_t k, std::int64_t n,
                                               std::int64_t group_size) {
  switch (format) {
    case OutputFormat::kAwq:
      return std::make_unique<AwqEncoder>(k, n, group_size);
    case OutputFormat::kGptq:
      return std::make_unique<GptqEncoder>(k, n, group_size);
    case OutputFormat::kTorchao:
      return std::make_unique<TorchaoEncoder>(k, n, group_size);
    case OutputFormat::kOpenVino:
      return std::make_unique<OpenVinoEncoder>(k, n, group_size);
  }
  throw std::logic_error("OutputFormat");
}

}  // namespace suites::quantize
