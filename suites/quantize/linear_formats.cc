#include "suites/quantize/linear_formats.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utility>

#include "kernels/int4_pack.h"
#include "suites/quantize/group_quantizer.h"
#include "suites/quantize/half.h"
#include "suites/quantize/layer_encoder.h"
#include "suites/quantize/parallel.h"

namespace suites::quantize {
namespace {

constexpr std::int64_t kDenseRows = 256;  // rows that one task encodes

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

Tile QuantizeTile(Grid grid, const WeightSource& source, const TensorInfo& tensor, std::int64_t n0, std::int64_t rows,
                  std::int64_t group) {
  Tile tile{.n0 = n0, .rows = rows, .k = tensor.columns(), .groups = tensor.columns() / group};
  tile.stride = tile.k + 64;
  tile.codes.resize(rows * tile.stride);
  tile.scales.reserve(rows * tile.groups);
  std::vector<float> weights(tile.k);  // one output at a time stays in the nearest cache
  for (std::int64_t r = 0; r < rows; ++r) {
    source.Read(tensor, n0 + r, n0 + r + 1, weights.data());
    for (std::int64_t at = 0; at < tile.k; at += group) {
      tile.scales.push_back(
          QuantizeGroup(grid, std::span(weights).subspan(at, group), tile.codes.data() + r * tile.stride + at));
    }
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

class LayerEncoding final : public Encoding {
 public:
  LayerEncoding(OutputFormat format, const WeightSource& source, TensorInfo tensor, std::int64_t group_size)
      : grid_(GridOf(format)),
        source_(source),
        tensor_(std::move(tensor)),
        group_size_(group_size),
        encoder_(MakeLayerEncoder(format, tensor_.columns(), tensor_.rows(), group_size)) {}

  std::int64_t tasks() const override { return (tensor_.rows() + kTileRows - 1) / kTileRows; }
  void Run(std::int64_t task) override {
    try {
      const std::int64_t n0 = task * kTileRows;
      encoder_->Put(QuantizeTile(grid_, source_, tensor_, n0, std::min(kTileRows, tensor_.rows() - n0), group_size_));
    } catch (const std::invalid_argument& error) {
      throw CheckpointError(tensor_.name + ": " + error.what());
    }
  }
  std::vector<Bytes> Take() override { return encoder_->Take(); }

 private:
  Grid grid_;
  const WeightSource& source_;
  TensorInfo tensor_;
  std::int64_t group_size_;
  std::unique_ptr<LayerEncoder> encoder_;
};

class DenseEncoding final : public Encoding {
 public:
  DenseEncoding(OutputFormat format, const WeightSource& source, TensorInfo tensor, RowRange rows)
      : dtype_(DenseDtype(format, tensor)),
        source_(source),
        tensor_(std::move(tensor)),
        rows_(rows),
        row_bytes_(BytesOf(TensorHeader{tensor_.name, dtype_, tensor_.shape}) /
                   static_cast<std::uint64_t>(tensor_.rows())),
        bytes_(static_cast<std::uint64_t>(rows.end - rows.begin) * row_bytes_) {}

  std::int64_t tasks() const override { return (rows_.end - rows_.begin + kDenseRows - 1) / kDenseRows; }
  void Run(std::int64_t task) override {
    try {
      const std::int64_t begin = rows_.begin + task * kDenseRows, end = std::min(begin + kDenseRows, rows_.end);
      std::vector<float> values((end - begin) * tensor_.columns());
      source_.Read(tensor_, begin, end, values.data());
      EncodeDense(dtype_, values, bytes_.data() + static_cast<std::uint64_t>(begin - rows_.begin) * row_bytes_);
    } catch (const std::invalid_argument& error) {
      throw CheckpointError(tensor_.name + ": " + error.what());
    }
  }
  std::vector<Bytes> Take() override {
    std::vector<Bytes> tensors;
    tensors.push_back(std::move(bytes_));
    return tensors;
  }

 private:
  std::string dtype_;
  const WeightSource& source_;
  TensorInfo tensor_;
  RowRange rows_;
  std::uint64_t row_bytes_;
  Bytes bytes_;
};

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

std::unique_ptr<Encoding> BeginEncoding(OutputFormat format, const WeightSource& source, const TensorInfo& tensor,
                                        std::int64_t group_size, RowRange rows) {
  if (tensor.quantized) return std::make_unique<LayerEncoding>(format, source, tensor, group_size);
  return std::make_unique<DenseEncoding>(format, source, tensor, rows);
}

std::vector<std::vector<std::byte>> Encode(OutputFormat format, const WeightSource& source, const TensorInfo& tensor,
                                           std::int64_t group_size, int threads) {
  const auto encoding = BeginEncoding(format, source, tensor, group_size, {0, tensor.rows()});
  ParallelFor(threads, encoding->tasks(), [&](std::int64_t task) { encoding->Run(task); });
  std::vector<std::vector<std::byte>> tensors;
  for (Bytes& bytes : encoding->Take()) tensors.emplace_back(bytes.span().begin(), bytes.span().end());
  return tensors;
}

std::uint64_t BytesOf(const TensorHeader& header) {
  std::uint64_t bits = header.dtype == "F32" || header.dtype == "I32" ? 32 : header.dtype == "U4" ? 4 : 16;
  for (std::int64_t size : header.shape) bits *= static_cast<std::uint64_t>(size);
  return (bits + 7) / 8;
}

}  // namespace suites::quantize
