#include "suites/quantize/linear_formats.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>

#include "kernels/int4_pack.h"
#include "suites/quantize/group_quantizer.h"
#include "suites/quantize/half.h"
#include "suites/quantize/parallel.h"

namespace suites::quantize {
namespace {

constexpr std::int64_t kTileRows = 64;  // outputs that one task quantizes
constexpr std::int64_t kDenseRows = 256;

Grid GridOf(OutputFormat format) {
  switch (format) {
    case OutputFormat::kAwq:
    case OutputFormat::kOpenVino:
      return Grid::kIntegerZero;
    case OutputFormat::kGptq:
      return Grid::kSymmetric;
    case OutputFormat::kTorchao:
      return Grid::kFloatZero;
  }
  throw std::logic_error("OutputFormat");
}

template <typename T>
std::vector<std::byte> BytesOf(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// Outputs [n0, n0 + rows) of a linear layer, quantized.
struct Tile {
  std::int64_t n0 = 0, rows = 0, k = 0, groups = 0;
  std::vector<std::uint8_t> codes = {};  // [rows, k]
  std::vector<GroupScale> scales = {};   // [rows, groups]

  std::vector<std::uint8_t> CodesByInput() const {  // [k, rows], as kernels/int4_pack.h takes them
    std::vector<std::uint8_t> turned(codes.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < k; ++i) turned[i * rows + r] = codes[r * k + i];
    }
    return turned;
  }
  std::vector<std::uint8_t> ZerosByGroup() const {  // [groups, rows]
    std::vector<std::uint8_t> zeros(scales.size());
    for (std::int64_t g = 0; g < groups; ++g) {
      for (std::int64_t r = 0; r < rows; ++r) {
        zeros[g * rows + r] = static_cast<std::uint8_t>(scales[r * groups + g].zero);
      }
    }
    return zeros;
  }
};

// Where tiles are put together; tiles touch different bytes.
class LayerEncoder {
 public:
  virtual ~LayerEncoder() = default;
  virtual void Put(const Tile& tile) = 0;
  virtual std::vector<std::vector<std::byte>> Take() = 0;
};

// Copies a [rows, columns] block into a matrix that is `width` wide.
template <typename T>
void PutBlock(std::vector<T>& matrix, std::int64_t width, std::int64_t column, const std::vector<T>& block,
              std::int64_t columns) {
  const auto rows = static_cast<std::int64_t>(block.size()) / columns;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy_n(block.begin() + r * columns, columns, matrix.begin() + r * width + column);
  }
}

// AWQ and GPTQ: words of codes, words of zero points, scales [K/G, N].
class WordEncoder final : public LayerEncoder {
 public:
  WordEncoder(bool gptq, std::int64_t k, std::int64_t n, std::int64_t group)
      : gptq_(gptq),
        k_(k),
        n_(n),
        group_(group),
        words_(k * n / 8),
        zeros_(k / group * n / 8),
        scales_(k / group * n) {}

  void Put(const Tile& tile) override {
    if (gptq_) {
      PutBlock(words_, n_, tile.n0, kernels::PackGptq(tile.CodesByInput(), k_, tile.rows), tile.rows);
    } else {
      PutBlock(words_, n_ / 8, tile.n0 / 8, kernels::PackAwq(tile.CodesByInput(), k_, tile.rows), tile.rows / 8);
    }
    const std::vector<std::uint8_t> zeros = tile.ZerosByGroup();
    PutBlock(zeros_, n_ / 8, tile.n0 / 8,
             gptq_ ? kernels::PackGptqZeros(zeros, tile.groups, tile.rows, /*v1=*/true)
                   : kernels::PackAwq(zeros, tile.groups, tile.rows),
             tile.rows / 8);
    for (std::int64_t g = 0; g < tile.groups; ++g) {
      for (std::int64_t r = 0; r < tile.rows; ++r) {
        scales_[g * n_ + tile.n0 + r] = tile.scales[r * tile.groups + g].scale;
      }
    }
  }

  std::vector<std::vector<std::byte>> Take() override {
    std::vector<std::vector<std::byte>> tensors;
    if (gptq_) {
      std::vector<std::int32_t> g_idx(k_);
      for (std::int64_t i = 0; i < k_; ++i) g_idx[i] = static_cast<std::int32_t>(i / group_);
      tensors.push_back(BytesOf(g_idx));
    }
    tensors.push_back(BytesOf(words_));
    tensors.push_back(BytesOf(zeros_));
    tensors.push_back(BytesOf(scales_));
    return tensors;
  }

 private:
  bool gptq_;
  std::int64_t k_, n_, group_;
  std::vector<std::int32_t> words_, zeros_;
  std::vector<std::uint16_t> scales_;
};

class TorchaoEncoder final : public LayerEncoder {
 public:
  TorchaoEncoder(std::int64_t k, std::int64_t n, std::int64_t group)
      : k_(k), n_(n), words_(kernels::TorchaoPaddedK(k) * n / 8), scales_(kernels::TorchaoPaddedK(k) / group * n * 2) {
    // Padding holds code 0: (0 - 8) * 1 + 8 is zero.
    for (std::size_t i = k / group * n * 2; i < scales_.size(); i += 2) {
      scales_[i] = BFloat16FromFloat(1.0f);
      scales_[i + 1] = BFloat16FromFloat(8.0f);
    }
  }

  void Put(const Tile& tile) override {
    const auto words = kernels::PackTorchaoTile(tile.CodesByInput(), k_, tile.rows);
    std::copy(words.begin(), words.end(), words_.begin() + kernels::TorchaoPaddedK(k_) / 8 * tile.n0);
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      for (std::int64_t g = 0; g < tile.groups; ++g) {
        const GroupScale& scale = tile.scales[r * tile.groups + g];
        std::uint16_t* at = scales_.data() + (g * n_ + tile.n0 + r) * 2;
        at[0] = scale.scale;
        at[1] = scale.zero;
      }
    }
  }

  std::vector<std::vector<std::byte>> Take() override { return {BytesOf(words_), BytesOf(scales_)}; }

 private:
  std::int64_t k_, n_;
  std::vector<std::int32_t> words_;
  std::vector<std::uint16_t> scales_;
};

// Nibbles in the order of the elements, the first in the low half of a byte.
class OpenVinoEncoder final : public LayerEncoder {
 public:
  OpenVinoEncoder(std::int64_t k, std::int64_t n, std::int64_t group)
      : codes_(k * n / 2), zeros_((k / group * n + 1) / 2), scales_(k / group * n) {}

  void Put(const Tile& tile) override {
    for (std::size_t i = 0; i < tile.codes.size(); i += 2) {
      codes_[tile.n0 * tile.k / 2 + i / 2] = std::byte(tile.codes[i] | (tile.codes[i + 1] << 4));
    }
    const std::int64_t first = tile.n0 * tile.groups;  // even: tiles begin at multiples of kTileRows
    for (std::size_t i = 0; i < tile.scales.size(); ++i) {
      scales_[first + i] = tile.scales[i].scale;
      zeros_[(first + i) / 2] |= std::byte(tile.scales[i].zero << ((first + i) % 2 * 4));
    }
  }

  std::vector<std::vector<std::byte>> Take() override {
    return {std::move(codes_), std::move(zeros_), BytesOf(scales_)};
  }

 private:
  std::vector<std::byte> codes_, zeros_;
  std::vector<std::uint16_t> scales_;
};

std::unique_ptr<LayerEncoder> EncoderFor(OutputFormat format, std::int64_t k, std::int64_t n, std::int64_t group) {
  switch (format) {
    case OutputFormat::kAwq:
      return std::make_unique<WordEncoder>(false, k, n, group);
    case OutputFormat::kGptq:
      return std::make_unique<WordEncoder>(true, k, n, group);
    case OutputFormat::kTorchao:
      return std::make_unique<TorchaoEncoder>(k, n, group);
    case OutputFormat::kOpenVino:
      return std::make_unique<OpenVinoEncoder>(k, n, group);
  }
  throw std::logic_error("OutputFormat");
}

Tile QuantizeTile(Grid grid, const WeightSource& source, const TensorInfo& tensor, std::int64_t n0, std::int64_t rows,
                  std::int64_t group) {
  Tile tile{.n0 = n0, .rows = rows, .k = tensor.columns(), .groups = tensor.columns() / group};
  std::vector<float> weights(rows * tile.k);
  source.Read(tensor, n0, n0 + rows, weights.data());
  tile.codes.resize(weights.size());
  for (std::int64_t at = 0; at < rows * tile.k; at += group) {
    tile.scales.push_back(QuantizeGroup(grid, std::span(weights).subspan(at, group), tile.codes.data() + at));
  }
  return tile;
}

std::string DenseDtype(OutputFormat format, const TensorInfo& tensor) {
  if (format == OutputFormat::kTorchao) return "BF16";
  if (format == OutputFormat::kOpenVino && tensor.shape.size() == 1) return "F32";
  return "F16";
}

void EncodeDense(const std::string& dtype, std::span<const float> values, std::byte* out) {
  if (dtype == "F32") {
    std::memcpy(out, values.data(), values.size_bytes());
    return;
  }
  const bool half = dtype == "F16";
  for (float value : values) {
    if (!std::isfinite(value)) throw std::invalid_argument("holds NaN or infinity");
    const std::uint16_t bits = half ? HalfFromFloat(value) : BFloat16FromFloat(value);
    if (half && (bits & 0x7fff) >= 0x7c00) throw std::invalid_argument("holds a value beyond float16");
    std::memcpy(out, &bits, sizeof bits);
    out += sizeof bits;
  }
}

}  // namespace

std::string_view NameOf(OutputFormat format) {
  switch (format) {
    case OutputFormat::kAwq:
      return "awq";
    case OutputFormat::kGptq:
      return "gptq";
    case OutputFormat::kTorchao:
      return "torchao";
    case OutputFormat::kOpenVino:
      return "openvino";
  }
  throw std::logic_error("OutputFormat");
}

std::optional<OutputFormat> ParseOutputFormat(std::string_view name) {
  for (auto format : {OutputFormat::kAwq, OutputFormat::kGptq, OutputFormat::kTorchao, OutputFormat::kOpenVino}) {
    if (name == NameOf(format)) return format;
  }
  return std::nullopt;
}

std::vector<TensorHeader> HeadersFor(OutputFormat format, const TensorInfo& tensor, std::int64_t group_size) {
  if (!tensor.quantized) return {{tensor.name, DenseDtype(format, tensor), tensor.shape}};
  const std::int64_t n = tensor.rows(), k = tensor.columns(), groups = k / group_size;
  if (k % group_size != 0) {
    throw CheckpointError(tensor.name + " " + ShapeText(tensor.shape) +
                          ": its inputs are not a multiple of the group size " + std::to_string(group_size));
  }
  if (n % 8 != 0) {
    throw CheckpointError(tensor.name + " " + ShapeText(tensor.shape) + ": its outputs are not a multiple of 8");
  }
  const std::string module = tensor.name.substr(0, tensor.name.rfind(".weight"));
  switch (format) {
    case OutputFormat::kAwq:
      return {{module + ".qweight", "I32", {k, n / 8}},
              {module + ".qzeros", "I32", {groups, n / 8}},
              {module + ".scales", "F16", {groups, n}}};
    case OutputFormat::kGptq:
      return {{module + ".g_idx", "I32", {k}},
              {module + ".qweight", "I32", {k / 8, n}},
              {module + ".qzeros", "I32", {groups, n / 8}},
              {module + ".scales", "F16", {groups, n}}};
    case OutputFormat::kTorchao: {
      const std::int64_t padded = kernels::TorchaoPaddedK(k);
      return {{module + "._weight_qdata", "I32", {n / 8, padded / 128, 32, 4}},
              {module + "._weight_scale_and_zero", "BF16", {padded / group_size, n, 2}}};
    }
    case OutputFormat::kOpenVino:
      return {{tensor.name, "U4", {n, groups, group_size}},
              {tensor.name + "/zero_point", "U4", {n, groups, 1}},
              {tensor.name + "/scale", "F16", {n, groups, 1}}};
  }
  throw std::logic_error("OutputFormat");
}

std::vector<std::vector<std::byte>> Encode(OutputFormat format, const WeightSource& source, const TensorInfo& tensor,
                                           std::int64_t group_size, int threads) {
  try {
    if (tensor.quantized) {
      const auto encoder = EncoderFor(format, tensor.columns(), tensor.rows(), group_size);
      ParallelFor(threads, (tensor.rows() + kTileRows - 1) / kTileRows, [&](std::int64_t i) {
        const std::int64_t n0 = i * kTileRows;
        encoder->Put(
            QuantizeTile(GridOf(format), source, tensor, n0, std::min(kTileRows, tensor.rows() - n0), group_size));
      });
      return encoder->Take();
    }
    const std::string dtype = DenseDtype(format, tensor);
    std::vector<std::byte> bytes(BytesOf(TensorHeader{tensor.name, dtype, tensor.shape}));
    const std::int64_t row_bytes = static_cast<std::int64_t>(bytes.size()) / tensor.rows();
    ParallelFor(threads, (tensor.rows() + kDenseRows - 1) / kDenseRows, [&](std::int64_t i) {
      const std::int64_t begin = i * kDenseRows, end = std::min(begin + kDenseRows, tensor.rows());
      std::vector<float> values((end - begin) * tensor.columns());
      source.Read(tensor, begin, end, values.data());
      EncodeDense(dtype, values, bytes.data() + begin * row_bytes);
    });
    std::vector<std::vector<std::byte>> tensors;
    tensors.push_back(std::move(bytes));
    return tensors;
  } catch (const std::invalid_argument& error) {
    throw CheckpointError(tensor.name + ": " + error.what());
  }
}

std::uint64_t BytesOf(const TensorHeader& header) {
  std::uint64_t bits = header.dtype == "F32" || header.dtype == "I32" ? 32 : header.dtype == "U4" ? 4 : 16;
  for (std::int64_t size : header.shape) bits *= static_cast<std::uint64_t>(size);
  return (bits + 7) / 8;
}

}  // namespace suites::quantize
