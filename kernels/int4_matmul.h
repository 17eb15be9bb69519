// INT4 matmul: y[M, N] = x[M, K] . W[K, N], W dequantized from 4-bit codes with
// a scale (and a zero point or offset) for each group of rows of K.
#ifndef KERNELS_INT4_MATMUL_H_
#define KERNELS_INT4_MATMUL_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// Not `int4`: that is a type of CUDA's vector_types.h.
namespace kernels {

// How a checkpoint stores a quantized linear layer on disk.
enum class Format : std::uint8_t {
  // AutoAWQ "gemm": qweight I32 [K, N/8], qzeros I32 [K/G, N/8], scales F16 [K/G, N].
  // Bits 4i of word c hold column 8c + {0,2,4,6,1,3,5,7}[i]. W = (q - z) s.
  kAwq,
  // GPTQ: qweight I32 [K/8, N], qzeros I32 [K/G, N/8], scales F16 [K/G, N], g_idx I32 [K].
  // W[k,n] = (q - z[g_idx[k],n]) s[g_idx[k],n]. `gptq_v1_zeros`: stored z - 1, as whole words.
  kGptq,
  // torchao tile_packed_to_4d: qdata I32 [Npad/8, Kpad/128, 32, 4],
  // scale_and_zero BF16 [Kpad/G, Npad, 2]. W = (q - 8) scale + zero.
  kTorchaoTilePacked,
  // torchao plain: qdata I8 [N, K/2], scale and zero BF16 [K/G, N]. W = q scale + zero, q signed.
  kTorchaoPlain,
};
std::string_view NameOf(Format format);

// One linear layer as it came from the checkpoint, layout of `format`. Its tensors
// lie together in host memory or on one device.
struct QuantizedLinear {
  std::string name;  // "model.layers.0.mlp.down_proj"
  Format format = Format::kAwq;
  std::int64_t k = 0;  // true sizes, without padding
  std::int64_t n = 0;
  std::int64_t group_size = 128;  // rows of K that share a scale; whole columns: k
  at::Tensor qweight;             // qdata for torchao
  at::Tensor qzeros;              // undefined where the format has none
  // scale_and_zero for the tile-packed format. Dequantize() takes bfloat16 and
  // float32 for AWQ and GPTQ too, the kernels only float16.
  at::Tensor scales;
  at::Tensor g_idx;  // undefined, or GPTQ's
  bool gptq_v1_zeros = true;
};

// W as float32 [K, N], by the formulas above, exactly (no rounding to half
// precision in between). The slow reference. Throws std::invalid_argument with
// the layer's name where a tensor's shape or dtype does not fit.
at::Tensor Dequantize(const QuantizedLinear& linear);

// Concatenates layers along N (q, k, v; gate, up). They must agree in format and K;
// returns nothing where group sizes or g_idx differ.
std::unique_ptr<QuantizedLinear> ConcatenateColumns(const std::vector<QuantizedLinear>& parts);

// What a kernel promises of two runs on the same input.
enum class Property : std::uint8_t {
  kBitExact,      // same bits by construction
  kArrivalOrder,  // partial sums meet in arrival order
  kUnknown,       // a foreign kernel: nothing is promised
};

struct KernelIdentity {
  std::string family;    // "marlin", "awq", "gptq", "tinygemm"
  std::string provider;  // "builtin", "aten", "vllm"
  std::string device;    // "cpu", "cuda"
  std::string version;
  // The operator's name as a profiler shows it, "determinism_int4::gptq_gemm".
  std::string op;
  std::string ordered_op;  // the twin under the deterministic switch; "" if none
  Property property = Property::kUnknown;
  // Rows of K behind each partial sum that is rounded to fp16 before it is added
  // to the others; 0 where nothing is rounded in between.
  std::int64_t rows_per_partial_sum = 0;
  // On a device: parts of the demangled names of the device functions that
  // multiply, by which a profile shows that this kernel ran. One of them runs in
  // every call; where the weights are first dequantized, it is that function.
  std::vector<std::string> device_functions = {};
  // A row's bits do not depend on the number of rows.
  bool batch_invariant = false;
};

// A layer's weights in the layout of one kernel, ready to multiply.
class Int4Matmul {
 public:
  virtual ~Int4Matmul() = default;
  // x: [M, K] contiguous, fp16 (tinygemm: bf16), on the kernel's device. Returns
  // [M, N] of the same type. Throws std::invalid_argument where x is not so.
  // Runs as a torch operator, so that at::RecordFunction sees it, and follows
  // at::globalContext().deterministicAlgorithms().
  virtual at::Tensor Forward(const at::Tensor& x) const = 0;
  // The same multiplication by the ordered twin, whatever the switch says;
  // for a kernel without a twin the same as Forward().
  virtual at::Tensor ForwardOrdered(const at::Tensor& x) const = 0;
  // Which way that many rows take, for a kernel that has several: "stream, K in 4
  // splits", "dequantize, then at::mm". For people; "" where there is one way.
  virtual std::string PathFor(std::int64_t /*rows*/) const { return ""; }
  virtual const KernelIdentity& identity() const = 0;
  // The operator that a profile shows for so many rows: identity().op, unless a
  // foreign kernel leaves it for another one.
  virtual std::string OperatorFor(std::int64_t /*rows*/) const { return identity().op; }
  virtual std::int64_t k() const = 0;
  virtual std::int64_t n() const = 0;
};

struct KernelRequest {
  std::string family;
  std::string provider = "auto";
  std::string device = "cpu";  // or "cuda", "cuda:N"
  // Switches of a foreign kernel by name (kernels/providers/vllm.h); a kernel
  // that does not know one refuses it.
  std::map<std::string, std::string> options = {};
  // The kernel whose rows have the same bits in every batch: marlin and awq, builtin;
  // those of the CPU have them always. The others refuse.
  bool batch_invariant = false;
};

// Families that can be named in variants.json ("openvino" is not one: its
// runtime holds its own kernels). Those of "cuda" are there in a build with device
// code, whether or not there is a device.
std::vector<KernelIdentity> RegisteredKernels();

// Repacks `linear` for a kernel, after copying it to the kernel's device where it
// does not lie there already. Throws std::invalid_argument with one line that
// names the layer, the kernel and what does not fit (a format that the family
// does not read, desc_act, a group size, N not a multiple of 8), or says why there
// is no such device.
std::unique_ptr<Int4Matmul> MakeInt4Matmul(const KernelRequest& request, const QuantizedLinear& linear);

}  // namespace kernels

#endif  // KERNELS_INT4_MATMUL_H_
