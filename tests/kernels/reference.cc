// Derivations. u = 2^-24 is the unit roundoff of float32, h = 2^-11 that of
// float16, b = 2^-8 that of bfloat16; gamma(n, u) = n u / (1 - n u) bounds the
// relative error of n roundings (Higham, Accuracy and Stability of Numerical
// Algorithms, 2nd ed., lemma 3.1). S = sum |x| |w| of one output.
#include "tests/kernels/reference.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/le.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "kernels/int4_pack.h"

namespace kernels {
namespace {

constexpr double kFloatUnit = 0x1p-24, kHalfUnit = 0x1p-11, kBFloatUnit = 0x1p-8;
// Half the smallest subnormal half: what rounding below the normal range may add.
constexpr double kHalfUnderflow = 0x1p-25;

double Gamma(double n, double unit) { return n * unit / (1 - n * unit); }

// The longest chain of roundings in the float32 sum over `rows` of K: the sum of a
// block of at most 128 rows is exact and rounded once, and goes through one fused
// multiply-add for itself and for each block that follows. Blocks end at groups and
// at 128 rows.
double Chain(std::int64_t rows, std::int64_t group_size) {
  const std::int64_t block = std::min<std::int64_t>({group_size, 128, rows});
  // Where a slice cuts a group, and where rows are left, a block more each.
  return static_cast<double>(1 + rows / block + 2);
}

struct Exact {
  at::Tensor product;    // F64 [M, N]
  at::Tensor magnitude;  // S, F64 [M, N]
};
Exact Multiply(const at::Tensor& x, const at::Tensor& w) {
  return {at::matmul(x, w), at::matmul(at::abs(x), at::abs(w))};
}

// Additions on tensor cores. An instruction adds 16 exact products to the sum so
// far; PTX leaves their order and their rounding open, "at least single precision",
// and they are known to cut off (Fasi, Higham, Mikaitis, Pranesh, Numerical
// behavior of NVIDIA tensor cores, 2021), addends shifted to the exponent of the
// largest: 17 numbers cut off by at most 2^-23 of what S bounds. So 17 roundings of
// unit 2 u for 16 rows of K, which cover cuBLAS's sums in whatever order too. A term
// goes through those of its accumulator, and then through the float32 additions
// of the sums of warps and of splits.
double TensorCoreError(const SumChain& chain) {
  return Gamma(17 * static_cast<double>((chain.rows + 63) / 64 * 4) + static_cast<double>(chain.sums), 2 * kFloatUnit);
}

// W, and what the exact W may differ from it: where a kernel on a device rounds each
// weight to half once, by h |w| or half a subnormal.
struct RoundedWeights {
  at::Tensor w;           // F64 [K, N], on the device of x
  at::Tensor difference;  // F64 [K, N]
};
RoundedWeights WeightsFor(const QuantizedLinear& linear, const at::Tensor& x, WeightRounding rounding) {
  const at::Tensor exact = Dequantize(linear).to(x.device());
  if (rounding == WeightRounding::kToHalf) {
    const at::Tensor w = exact.to(at::kHalf).to(at::kDouble);
    return {w, at::zeros_like(w)};
  }
  const at::Tensor w = exact.to(at::kDouble);
  if (rounding == WeightRounding::kNone) return {w, at::zeros_like(w)};
  return {w, w.abs().mul(kHalfUnit).add(kHalfUnderflow)};
}

}  // namespace

// Float32 chain, then one rounding to half:
//   |y - x.w| <= e + h (|x.w| + e) + underflow,  e = gamma(chain, u) S.
Reference OrderedReference(const QuantizedLinear& linear, const at::Tensor& x) {
  const Exact exact = Multiply(x.to(at::kDouble), Dequantize(linear).to(at::kDouble));
  const at::Tensor e = exact.magnitude.mul(Gamma(Chain(linear.k, linear.group_size), kFloatUnit));
  return {exact.product, e.add(exact.product.abs().add(e).mul(kHalfUnit)).add(kHalfUnderflow)};
}

// The same with the error of the weights and of the tensor cores' additions:
//   e = sum |x| d + c sum |x| (|w| + d),  d the weights' rounding, c of TensorCoreError.
Reference TensorCoreReference(const QuantizedLinear& linear, const at::Tensor& x, WeightRounding rounding,
                              const SumChain& chain) {
  const auto [w, difference] = WeightsFor(linear, x, rounding);
  const at::Tensor xs = x.to(at::kDouble);
  const at::Tensor product = at::matmul(xs, w), size = at::abs(xs);
  const double c = TensorCoreError(chain);
  const at::Tensor e = at::matmul(size, difference.mul(1 + c).add(w.abs().mul(c)));
  return {product, e.add(product.abs().add(e).mul(kHalfUnit)).add(kHalfUnderflow)};
}

// J slices p_j: each has its float32 error e_j = gamma(chain, u) S_j and is rounded
// to half: h (|p_j| + e_j) + underflow. Their sum in half, in whatever order, has
// at most J - 1 roundings of partial sums, none of which underflows (a sum of
// halves in the subnormal range is exact): gamma(J - 1, h) times the sum of the
// rounded |p_j|.
namespace {

Reference AddSlices(const QuantizedLinear& linear, const at::Tensor& x, RoundedWeights weights, double gamma) {
  at::Tensor xs = x.to(at::kDouble);
  // desc_act: the kernel's slices are of rows sorted by group.
  if (linear.g_idx.defined()) {
    const at::Tensor order = linear.g_idx.to(x.device()).argsort(/*stable=*/true, /*dim=*/0);
    weights = {weights.w.index_select(0, order), weights.difference.index_select(0, order)};
    xs = xs.index_select(1, order);
  }
  at::Tensor product = at::zeros({x.size(0), linear.n}, xs.options());
  at::Tensor error = at::zeros_like(product), slices = at::zeros_like(product);
  std::int64_t count = 0;
  for (std::int64_t k = 0; k < linear.k; k += 128, ++count) {
    const std::int64_t rows = std::min<std::int64_t>(128, linear.k - k);
    const at::Tensor part = xs.narrow(1, k, rows), w = weights.w.narrow(0, k, rows);
    const at::Tensor slice = at::matmul(part, w);
    const at::Tensor e =
        at::matmul(part.abs(), weights.difference.narrow(0, k, rows).mul(1 + gamma).add(w.abs().mul(gamma)));
    const at::Tensor size = slice.abs().add(e);
    const at::Tensor rounding = size.mul(kHalfUnit).add(kHalfUnderflow);
    product = product.add(slice);
    error = error.add(e).add(rounding);
    slices = slices.add(size).add(rounding);
  }
  return {product, error.add(slices.mul(Gamma(static_cast<double>(count - 1), kHalfUnit)))};
}

}  // namespace

Reference SplitKReference(const QuantizedLinear& linear, const at::Tensor& x) {
  const at::Tensor w = Dequantize(linear).to(at::kDouble);
  return AddSlices(linear, x, {w, at::zeros_like(w)}, Gamma(Chain(128, linear.group_size), kFloatUnit));
}

// The same with e_j of TensorCoreReference().
Reference TensorCoreSplitKReference(const QuantizedLinear& linear, const at::Tensor& x, WeightRounding rounding,
                                    const SumChain& chain) {
  return AddSlices(linear, x, WeightsFor(linear, x, rounding), TensorCoreError(chain));
}

// A kernel of ATen's, whose order of summation we do not know: a weight may be
// rounded to bfloat16 (b S), a sum of K terms in float32 has K roundings and a
// weight two more, and the result is rounded to bfloat16. The float32 part is
// taken over sum |x| (8 |scale| + |zero|), since (q - 8) scale and zero may cancel.
// On a device the additions are those of tensor cores.
Reference TinygemmReference(const QuantizedLinear& linear, const at::Tensor& x) {
  const at::Tensor xs = x.to(at::kDouble);
  const Exact exact = Multiply(xs, Dequantize(linear).to(x.device()).to(at::kDouble));
  const std::int64_t groups = linear.k / linear.group_size;
  at::Tensor scale, zero;
  if (linear.format == Format::kTorchaoTilePacked) {
    scale = linear.scales.select(2, 0).narrow(0, 0, groups).narrow(1, 0, linear.n);
    zero = linear.scales.select(2, 1).narrow(0, 0, groups).narrow(1, 0, linear.n);
  } else {
    scale = linear.scales;
    zero = linear.qzeros;
  }
  const double additions = x.is_cpu() ? Gamma(static_cast<double>(linear.k + 2), kFloatUnit)
                                      : TensorCoreError({TorchaoPaddedK(linear.k), 64});
  scale = scale.to(x.device());
  zero = zero.to(x.device());
  const at::Tensor terms = scale.to(at::kDouble).abs().mul(8).add(zero.to(at::kDouble).abs());
  const at::Tensor magnitude = at::matmul(xs.abs(), terms.repeat_interleave(linear.group_size, 0));
  const at::Tensor e = exact.magnitude.mul(kBFloatUnit).add(magnitude.mul((1 + kBFloatUnit) * additions));
  return {exact.product, e.add(exact.product.abs().add(e).mul(kBFloatUnit))};
}

std::string FirstOutside(const at::Tensor& y, const Reference& reference) {
  // Compared where it lies; copied only to name what is outside.
  if (y.sizes() == reference.product.sizes() &&
      at::le(at::abs(y.to(at::kDouble).sub(reference.product)), reference.bound).all().item<bool>()) {
    return "";
  }
  const at::Tensor actual = y.to(at::kCPU, at::kDouble).contiguous();
  const at::Tensor product = reference.product.cpu().contiguous(), bound = reference.bound.cpu().contiguous();
  if (actual.sizes() != product.sizes()) return "the shape is wrong";
  const double* const a = actual.const_data_ptr<double>();
  const double* const p = product.const_data_ptr<double>();
  const double* const b = bound.const_data_ptr<double>();
  for (std::int64_t i = 0; i < actual.numel(); ++i) {
    // Written so that NaN is outside.
    if (std::abs(a[i] - p[i]) <= b[i]) continue;
    std::ostringstream text;
    text << "[" << i / actual.size(1) << ", " << i % actual.size(1) << "]: " << a[i] << " instead of " << p[i]
         << ", off by " << std::abs(a[i] - p[i]) << ", bound " << b[i];
    return text.str();
  }
  return "";
}

}  // namespace kernels
