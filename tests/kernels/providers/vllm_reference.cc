// Derivations, from what the kernels round. h = 2^-11 is the unit roundoff of
// half, S = sum |x| |w| of one output, p the exact product, gamma(n, u) as in
// tests/kernels/reference.cc. Tensor cores add in float32 but truncate, so that
// a sum of n terms is bounded by gamma(n, 2^-22).
//
//   marlin      w = (q - z) s rounded to half (h S); float32 sums; result to half.
//   with atomic adds: one slice for each 64 rows of K at most, each rounded to
//               half and added in half: gamma(K / 64, h) more.
//   awq_gemm    w rounded (h S), eight slices rounded to half (h S), their float32 sum to half.
//   awq_dequantize and mm: w rounded; PyTorch lets cuBLAS reduce partial sums in
//               half: 2 h S allowed for that.
//   gptq_gemm   q - z exact; four fused multiply-adds in half (gamma(4, h) S); slices
//               of 128 rows rounded to half and added in half in any order.
//   gptq_gemm of many rows: w rounded (h S), cublasHgemm sums in half. Its worst case
//               says nothing (K h S = S / 2 for K = 1024). Roundings of a sum of K
//               terms of random sign are taken as independent: each at most h times a
//               partial sum of at most 4 ||x w||, of which K add up to 6 sqrt(K) h 4 ||x w||
//               but for one chance in 10^8 (Higham and Mary, SIAM J. Sci. Comput. 41, 2019).
//
// Elementwise worst cases of random data are wide. The error's norm is not: n
// independent roundings of relative size h of numbers no larger than the result
// give sqrt(n) h; twice that is allowed.
#include "tests/kernels/providers/vllm_reference.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/matmul.h>

#include <cmath>

namespace kernels {
namespace {

constexpr double kHalf = 0x1p-11, kTensorCore = 0x1p-22, kUnderflow = 0x1p-25;

double Gamma(double n, double unit) { return n * unit / (1 - n * unit); }
bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

VllmReference ReferenceFor(const std::string& path, const QuantizedLinear& linear, const at::Tensor& x) {
  const at::Tensor xs = x.to(at::kDouble), w = Dequantize(linear).to(at::kDouble);
  const at::Tensor product = at::matmul(xs, w), magnitude = at::matmul(at::abs(xs), at::abs(w));
  const double k = static_cast<double>(linear.k);
  double weights = kHalf, sums = Gamma(k, kTensorCore), roundings = 2;
  at::Tensor extra;
  if (Has(path, "atomic adds") && !Has(path, "without")) {
    sums += Gamma(k / 64, kHalf);
    roundings += k / 64;
  } else if (Has(path, "awq_dequantize")) {
    sums += 2 * kHalf;
    roundings += 2;
  } else if (Has(path, "awq_gemm")) {
    sums += kHalf;
    roundings += 8;
  } else if (Has(path, "gptq_gemm") && Has(path, "cublasHgemm")) {
    extra = at::matmul(xs.square(), w.square()).sqrt().mul(6 * std::sqrt(k) * kHalf * 4);
    roundings += k;
  } else if (Has(path, "gptq_gemm")) {
    weights = Gamma(4, kHalf);
    sums += Gamma(k / 128, kHalf);
    roundings += 4 + k / 128;
  }
  at::Tensor e = magnitude.mul((weights + sums) * (1 + kHalf));
  if (extra.defined()) e = e.add(extra);
  const at::Tensor bound = e.add(product.abs().add(e).mul(kHalf)).add(kUnderflow * std::sqrt(k));
  return {{product, bound}, 2 * std::sqrt(roundings) * kHalf};
}

double RelativeError(const at::Tensor& y, const Reference& reference) {
  const at::Tensor difference = y.to(at::kDouble).sub(reference.product);
  return std::sqrt(difference.square().sum().item<double>() / reference.product.square().sum().item<double>());
}

}  // namespace kernels
