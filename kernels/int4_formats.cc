// Checks, the exact reference weights and the column-wise join of quantized
// linear layers, for every format.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>

#include "kernels/int4_matmul.h"
#include "kernels/int4_pack.h"
#include "kernels/internal/layer.h"

namespace kernels {
namespace internal {

void Refuse(const QuantizedLinear& linear, const std::string& what) {
  throw std::invalid_argument((linear.name.empty() ? "unnamed layer" : linear.name) + " (" +
                              std::string(NameOf(linear.format)) + ", K = " + std::to_string(linear.k) +
                              ", N = " + std::to_string(linear.n) + "): " + what);
}

namespace {

std::string ShapeText(at::IntArrayRef shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  text += "]";
  return text;
}

void CheckTensor(const QuantizedLinear& linear, const char* what, const at::Tensor& tensor, at::ScalarType dtype,
                 at::IntArrayRef shape) {
  const std::string wanted = std::string(what) + " must be " + at::toString(dtype) + " " + ShapeText(shape);
  if (!tensor.defined()) Refuse(linear, wanted + ", but is missing");
  if (tensor.scalar_type() != dtype || tensor.sizes() != shape) {
    Refuse(linear, wanted + ", but is " + at::toString(tensor.scalar_type()) + " " + ShapeText(tensor.sizes()));
  }
  if (tensor.device() != linear.qweight.device()) {
    Refuse(linear, std::string(what) + " lies on " + tensor.device().str() + ", but the codes on " +
                       linear.qweight.device().str());
  }
}

template <typename T>
std::span<const T> Elements(const at::Tensor& contiguous) {
  return {contiguous.const_data_ptr<T>(), static_cast<std::size_t>(contiguous.numel())};
}

}  // namespace

namespace {

// Scales of AWQ and GPTQ: the kernels multiply by float16. Dequantize() also takes
// those that float16 cannot hold.
void CheckScales(const QuantizedLinear& linear, Scales scales) {
  const bool wide = linear.scales.defined() &&
                    (linear.scales.scalar_type() == at::kBFloat16 || linear.scales.scalar_type() == at::kFloat);
  if (wide && scales == Scales::kHalf) {
    Refuse(linear, std::string("its scales are ") + at::toString(linear.scales.scalar_type()) +
                       " of which float16, which the kernels multiply by, cannot hold all exactly; only --compute "
                       "fp32 runs them");
  }
  CheckTensor(linear, "scales", linear.scales, wide ? linear.scales.scalar_type() : at::kHalf,
              {linear.k / linear.group_size, linear.n});
}

}  // namespace

void CheckLayer(const QuantizedLinear& linear, Scales scales) {
  const std::int64_t k = linear.k, n = linear.n, group = linear.group_size;
  if (k <= 0 || n <= 0) Refuse(linear, "K and N must be positive");
  if (group <= 0 || k % group != 0) {
    Refuse(linear, "K is not a multiple of the group size " + std::to_string(group));
  }
  const std::int64_t groups = k / group;
  switch (linear.format) {
    case Format::kAwq:
      if (n % 8 != 0) Refuse(linear, "N is not a multiple of 8");
      CheckTensor(linear, "qweight", linear.qweight, at::kInt, {k, n / 8});
      CheckTensor(linear, "qzeros", linear.qzeros, at::kInt, {groups, n / 8});
      CheckScales(linear, scales);
      break;
    case Format::kGptq:
      if (n % 8 != 0) Refuse(linear, "N is not a multiple of 8");
      if (k % 8 != 0) Refuse(linear, "K is not a multiple of 8");
      CheckTensor(linear, "qweight", linear.qweight, at::kInt, {k / 8, n});
      CheckTensor(linear, "qzeros", linear.qzeros, at::kInt, {groups, n / 8});
      CheckScales(linear, scales);
      if (linear.g_idx.defined()) {
        CheckTensor(linear, "g_idx", linear.g_idx, at::kInt, {k});
        const at::Tensor g_idx = linear.g_idx.cpu().contiguous();
        for (const std::int32_t g : Elements<std::int32_t>(g_idx)) {
          if (g < 0 || g >= groups) {
            Refuse(linear,
                   "g_idx holds " + std::to_string(g) + ", but there are " + std::to_string(groups) + " groups");
          }
        }
      }
      break;
    case Format::kTorchaoTilePacked: {
      const std::int64_t padded_k = TorchaoPaddedK(k), padded_n = TorchaoPaddedN(n);
      if (padded_k % group != 0) Refuse(linear, "the group size does not divide 1024");
      CheckTensor(linear, "qdata", linear.qweight, at::kInt, {padded_n / 8, padded_k / 128, 32, 4});
      CheckTensor(linear, "scale_and_zero", linear.scales, at::kBFloat16, {padded_k / group, padded_n, 2});
      break;
    }
    case Format::kTorchaoPlain:
      if (k % 2 != 0) Refuse(linear, "K is odd");
      CheckTensor(linear, "qdata", linear.qweight, at::kChar, {n, k / 2});
      CheckTensor(linear, "scale", linear.scales, at::kBFloat16, {groups, n});
      CheckTensor(linear, "zero_point", linear.qzeros, at::kBFloat16, {groups, n});
      break;
  }
}

QuantizedLinear OnDevice(const QuantizedLinear& linear, at::Device device) {
  QuantizedLinear moved = linear;
  for (at::Tensor* const tensor : {&moved.qweight, &moved.qzeros, &moved.scales, &moved.g_idx}) {
    if (tensor->defined()) *tensor = tensor->to(device);
  }
  return moved;
}

std::vector<std::int64_t> RowOrder(const QuantizedLinear& linear) {
  if (!linear.g_idx.defined()) return {};
  std::vector<std::int64_t> order(static_cast<std::size_t>(linear.k));
  std::iota(order.begin(), order.end(), 0);
  const at::Tensor g_idx = linear.g_idx.cpu().contiguous();
  const std::int32_t* const group = g_idx.const_data_ptr<std::int32_t>();
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return group[a] < group[b]; });
  for (std::int64_t i = 0; i < linear.k; ++i) {
    if (group[order[i]] != i / linear.group_size) {
      Refuse(linear, "g_idx does not give each group " + std::to_string(linear.group_size) + " rows");
    }
  }
  return std::is_sorted(order.begin(), order.end()) ? std::vector<std::int64_t>{} : order;
}

void CheckGroups(const QuantizedLinear& linear) {
  if (linear.group_size % 8 != 0) {
    Refuse(linear, "the kernel needs a group size that is a multiple of 8, not " + std::to_string(linear.group_size));
  }
}

void RefuseFormat(const QuantizedLinear& linear, const KernelIdentity& identity, const char* reads) {
  Refuse(linear, "kernel " + identity.family + "/" + identity.provider + " reads " + reads + ", not " +
                     std::string(NameOf(linear.format)));
}

std::vector<std::uint8_t> CodesOf(const QuantizedLinear& linear) {
  const at::Tensor qweight = linear.qweight.contiguous();
  switch (linear.format) {
    case Format::kAwq:
      return UnpackAwq(Elements<std::int32_t>(qweight), linear.k, linear.n);
    case Format::kGptq:
      return UnpackGptq(Elements<std::int32_t>(qweight), linear.k, linear.n);
    case Format::kTorchaoTilePacked:
      return UnpackTorchaoTile(Elements<std::int32_t>(qweight), linear.k, linear.n);
    case Format::kTorchaoPlain:
      return UnpackTorchaoPlain(Elements<std::int8_t>(qweight), linear.k, linear.n);
  }
  Refuse(linear, "unknown format");
}

std::vector<std::uint8_t> ZerosOf(const QuantizedLinear& linear) {
  const std::int64_t groups = linear.k / linear.group_size;
  if (linear.format == Format::kAwq || linear.format == Format::kGptq) {
    const at::Tensor qzeros = linear.qzeros.contiguous();
    return linear.format == Format::kAwq
               ? UnpackAwq(Elements<std::int32_t>(qzeros), groups, linear.n)
               : UnpackGptqZeros(Elements<std::int32_t>(qzeros), groups, linear.n, linear.gptq_v1_zeros);
  }
  return std::vector<std::uint8_t>(static_cast<std::size_t>(groups * linear.n), 8);
}

}  // namespace internal

std::string_view NameOf(Format format) {
  switch (format) {
    case Format::kAwq:
      return "awq";
    case Format::kGptq:
      return "gptq";
    case Format::kTorchaoTilePacked:
      return "torchao tile-packed";
    case Format::kTorchaoPlain:
      return "torchao plain";
  }
  return "unknown";
}

at::Tensor Dequantize(const QuantizedLinear& on_any_device) {
  internal::CheckLayer(on_any_device, internal::Scales::kAny);
  const QuantizedLinear linear = internal::OnDevice(on_any_device, at::kCPU);
  const std::int64_t k = linear.k, n = linear.n;
  const std::vector<std::uint8_t> codes = internal::CodesOf(linear);
  at::Tensor weights = at::empty({k, n}, at::kFloat);
  float* const out = weights.mutable_data_ptr<float>();

  if (linear.format == Format::kAwq || linear.format == Format::kGptq) {
    const std::vector<std::uint8_t> zeros = internal::ZerosOf(linear);
    const at::Tensor scales = linear.scales.to(at::kFloat).contiguous();
    const float* const s = scales.const_data_ptr<float>();
    const at::Tensor g_idx = linear.g_idx.defined() ? linear.g_idx.contiguous() : at::Tensor();
    const std::int32_t* const group_of = g_idx.defined() ? g_idx.const_data_ptr<std::int32_t>() : nullptr;
    for (std::int64_t row = 0; row < k; ++row) {
      const std::int64_t g = group_of ? group_of[row] : row / linear.group_size;
      for (std::int64_t col = 0; col < n; ++col) {
        // Exact: 5 bits times the 11 bits of a half, or the 8 of a bfloat16, fit in a
        // float. Scales that are floats themselves are rounded once.
        const int q = static_cast<int>(codes[row * n + col]) - static_cast<int>(zeros[g * n + col]);
        out[row * n + col] = static_cast<float>(q) * s[g * n + col];
      }
    }
    return weights;
  }

  // Both torchao formats: (code - 8) scale + zero, where the product is exact
  // and the sum is rounded once, to float.
  const bool tiled = linear.format == Format::kTorchaoTilePacked;
  const std::int64_t columns = tiled ? TorchaoPaddedN(n) : n;
  const at::Tensor scales = linear.scales.contiguous();
  const at::BFloat16* const s = scales.const_data_ptr<at::BFloat16>();
  const at::Tensor zeros = tiled ? at::Tensor() : linear.qzeros.contiguous();
  const at::BFloat16* const z = tiled ? s + 1 : zeros.const_data_ptr<at::BFloat16>();
  const std::int64_t stride = tiled ? 2 : 1;
  for (std::int64_t row = 0; row < k; ++row) {
    const std::int64_t g = row / linear.group_size;
    for (std::int64_t col = 0; col < n; ++col) {
      const std::int64_t at = (g * columns + col) * stride;
      const double product =
          (static_cast<int>(codes[row * n + col]) - 8) * static_cast<double>(static_cast<float>(s[at]));
      out[row * n + col] = static_cast<float>(product + static_cast<double>(static_cast<float>(z[at])));
    }
  }
  return weights;
}

std::unique_ptr<QuantizedLinear> ConcatenateColumns(const std::vector<QuantizedLinear>& parts) {
  if (parts.empty()) throw std::invalid_argument("ConcatenateColumns: no layers given");
  const QuantizedLinear& first = parts.front();
  std::vector<at::Tensor> qweight, qzeros, scales;
  auto joined = std::make_unique<QuantizedLinear>(first);
  joined->n = 0;
  for (const QuantizedLinear& part : parts) {
    internal::CheckLayer(part);
    if (part.format != first.format || part.k != first.k || part.gptq_v1_zeros != first.gptq_v1_zeros) {
      internal::Refuse(part, "cannot be joined with " + first.name +
                                 ": format, K or the encoding of the zero points differ");
    }
    if (part.group_size != first.group_size) return nullptr;
    if (part.g_idx.defined() != first.g_idx.defined() ||
        (part.g_idx.defined() && !at::equal(part.g_idx, first.g_idx))) {
      return nullptr;
    }
    if (first.format == Format::kTorchaoTilePacked && &part != &parts.back() && part.n % 8 != 0) {
      internal::Refuse(part, "cannot be joined: N is not a multiple of 8, so padding would lie between the columns");
    }
    joined->n += part.n;
    if (&part != &first) {
      // "a.q_proj" and "a.k_proj" become "a.q_proj+k_proj".
      joined->name += "+" + part.name.substr(part.name.rfind('.') + 1);
    }
    qweight.push_back(part.qweight);
    scales.push_back(part.scales);
    if (part.qzeros.defined()) qzeros.push_back(part.qzeros);
  }
  const bool columns_first = first.format == Format::kTorchaoTilePacked || first.format == Format::kTorchaoPlain;
  joined->qweight = at::cat(qweight, columns_first ? 0 : 1);
  joined->scales = at::cat(scales, 1);
  if (!qzeros.empty()) joined->qzeros = at::cat(qzeros, 1);
  return joined;
}

}  // namespace kernels
