// How vLLM 0.23.0 calls its own INT4 kernels on one GPU, read from its Python
// sources (model_executor/kernels/linear/mixed_precision/{marlin,exllama}.py,
// layers/quantization/awq.py, layers/quantization/utils/marlin_utils.py), and
// what was read in its machine code (_C_stable_libtorch.abi3.so of the wheel):
// gptq_gemm divides K into slices of 128 rows (the grid is K / 128 deep) and
// leaves its own kernel for cublasHgemm above 50 rows of x; marlin_gemm adds
// atomically only while ceil(rows / 64) N <= 2048.
//
// On sm_90 vLLM itself would by default take Machete for a layer that Marlin
// can do, and Marlin before Exllama (gptq_gemm): the kernel here is the one that
// the variant names, as with vLLM's --linear-backend.
#include "kernels/providers/vllm.h"

#include <ATen/Context.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <utility>

#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"
#include "kernels/providers/boxed_operator.h"
#include "kernels/providers/op_library.h"
#include "kernels/providers/vllm_layout.h"
#include "kernels/torch_cuda.h"

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

namespace kernels {
namespace internal {
namespace {

using torch::jit::Stack;

// vLLM's ids of scalar types: 4 bits, unsigned; with 8 taken off, or with zero points.
constexpr std::int64_t kUint4b8 = 1125899907892224, kUint4 = 1125899906843648;
constexpr std::int64_t kBits = 4;

struct Family {
  KernelIdentity identity;
  std::vector<std::string> operators;  // what a library must have
};

const std::vector<Family>& Families() {
  static const std::vector<Family> families = [] {
    std::vector<Family> list(3);
    Family& marlin = list[0];
    marlin.identity.family = "marlin";
    marlin.identity.op = "_C::marlin_gemm";
    marlin.identity.device_functions = {"marlin::Marlin<"};
    marlin.operators = {"_C::marlin_gemm", "_C::gptq_marlin_repack", "_C::awq_marlin_repack"};
    Family& awq = list[1];
    awq.identity.family = "awq";
    awq.identity.op = "_C::awq_gemm";
    awq.identity.device_functions = {"vllm::awq::gemm_forward_4bit_cuda_m16nXk32", "vllm::awq::dequantize_weights"};
    awq.operators = {"_C::awq_gemm", "_C::awq_dequantize"};
    Family& gptq = list[2];
    gptq.identity.family = "gptq";
    gptq.identity.op = "_C::gptq_gemm";
    gptq.identity.rows_per_partial_sum = 128;
    gptq.identity.device_functions = {"vllm::gptq::gemm_half_q_half_gptq_4bit_kernel",
                                      "vllm::gptq::reconstruct_exllama_4bit_kernel"};
    gptq.operators = {"_C::gptq_gemm", "_C::gptq_shuffle"};
    for (Family& family : list) {
      family.identity.provider = "vllm";
      family.identity.device = "cuda";
      family.identity.property = Property::kUnknown;
    }
    return list;
  }();
  return families;
}

const Family* FamilyOf(const std::string& name) {
  for (const Family& family : Families()) {
    if (family.identity.family == name) return &family;
  }
  return nullptr;
}

bool Registered(const std::string& op) { return c10::Dispatcher::singleton().findSchema({op, ""}).has_value(); }

bool AllRegistered(const Family& family) {
  return std::all_of(family.operators.begin(), family.operators.end(), Registered);
}

// Opens what is found until the family's operators are there. Throws std::invalid_argument.
void OpenFor(const Family& family) {
  if (AllRegistered(family)) return;
  for (const std::filesystem::path& path : FindOpLibraries()) {
    OpenOpLibraries({path});
    if (AllRegistered(family)) return;
  }
  if (OpenedOpLibraries().empty()) {
    throw std::invalid_argument(
        "provider vllm needs vLLM's op library: name it with --op-library or $QUANT_OP_LIBRARIES, or install vllm "
        "into the Python environment that is in use");
  }
  for (const std::string& op : family.operators) FindOperator(op);
}

std::string Option(const KernelRequest& request, const std::string& name, const std::string& otherwise,
                   const std::vector<std::string>& values) {
  const auto found = request.options.find(name);
  if (found == request.options.end()) return otherwise;
  if (std::find(values.begin(), values.end(), found->second) != values.end()) return found->second;
  std::string known;
  for (const std::string& value : values) known += (known.empty() ? "" : ", ") + value;
  throw std::invalid_argument("option " + name + " of kernel " + request.family + "/vllm must be one of " + known +
                              ", not \"" + found->second + "\"");
}

void CheckOptions(const KernelRequest& request, const std::vector<std::string>& known) {
  for (const auto& [name, value] : request.options) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw std::invalid_argument("kernel " + request.family + "/vllm has no option " + name);
    }
  }
}

// desc_act: the rows of W sorted by group, and their groups; both I32 [K] on the
// device. Empty where the rows are in order, as vLLM gives them to its kernels.
struct SortedRows {
  at::Tensor order, groups;
  bool none() const { return order.numel() == 0; }
};

SortedRows SortRows(const QuantizedLinear& linear, at::Device device) {
  const std::vector<std::int64_t> rows = RowOrder(linear);
  const auto count = static_cast<std::int64_t>(rows.size());
  const at::Tensor order = at::empty({count}, at::kInt), groups = at::empty({count}, at::kInt);
  for (std::int64_t i = 0; i < count; ++i) {
    order.mutable_data_ptr<std::int32_t>()[i] = static_cast<std::int32_t>(rows[i]);
    groups.mutable_data_ptr<std::int32_t>()[i] = static_cast<std::int32_t>(i / linear.group_size);
  }
  return {order.to(device), groups.to(device)};
}

// Zero points I32 [K/G, N] on the device.
at::Tensor ZerosOf(const QuantizedLinear& linear, at::Device device) {
  const at::Tensor words = linear.qzeros.to(device);
  return linear.format == Format::kAwq ? vllm::AwqCodes(words) : vllm::GptqZeros(words, linear.gptq_v1_zeros);
}

bool AllAre(const at::Tensor& zeros, std::int64_t value) { return zeros.eq(value).all().item<bool>(); }

class VllmMatmul : public Int4Matmul {
 public:
  VllmMatmul(KernelIdentity identity, const QuantizedLinear& linear, at::Device device)
      : identity_(std::move(identity)), k_(linear.k), n_(linear.n), device_(device) {}

  at::Tensor Forward(const at::Tensor& x) const final {
    CheckActivations(identity_, x, at::kHalf, k_, device_);
    return Multiply(x);
  }
  at::Tensor ForwardOrdered(const at::Tensor& x) const final { return Forward(x); }
  const KernelIdentity& identity() const final { return identity_; }
  std::int64_t k() const final { return k_; }
  std::int64_t n() const final { return n_; }

 protected:
  virtual at::Tensor Multiply(const at::Tensor& x) const = 0;

  KernelIdentity identity_;
  std::int64_t k_;
  std::int64_t n_;
  at::Device device_;
};

// As many words as there are multiprocessors: the kernel's locks, which it leaves at zero.
at::Tensor MarlinWorkspace(at::Device device) {
  int multiprocessors = 0;
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  const cudaError_t error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device.index());
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
#endif
  return at::zeros({multiprocessors}, at::TensorOptions().dtype(at::kInt).device(device));
}

class MarlinMatmul final : public VllmMatmul {
 public:
  MarlinMatmul(KernelIdentity identity, const KernelRequest& request, const QuantizedLinear& linear, at::Device device)
      : VllmMatmul(std::move(identity), linear, device),
        gemm_("_C::marlin_gemm",
              {"a", "c_or_none", "b_q_weight", "b_bias_or_none", "b_scales", "a_scales", "global_scale",
               "b_zeros_or_none", "g_idx_or_none", "perm_or_none", "workspace", "b_type_id", "size_m", "size_n",
               "size_k", "is_k_full", "use_atomic_add", "use_fp32_reduce", "is_zp_float"}) {
    CheckOptions(request, {"use_atomic_add", "use_fp32_reduce"});
    const std::string atomic = Option(request, "use_atomic_add", "vllm", {"vllm", "true", "false"});
    const char* const variable = std::getenv("VLLM_MARLIN_USE_ATOMIC_ADD");
    const bool asked = variable != nullptr && std::string(variable) == "1";
    use_atomic_add_ = atomic == "true" || (atomic == "vllm" && asked && n_ < 2048 && k_ >= 2048);
    use_fp32_reduce_ = Option(request, "use_fp32_reduce", "true", {"true", "false"}) == "true";
    if (!use_fp32_reduce_) identity_.version += ", use_fp32_reduce off";
    if (use_atomic_add_) identity_.version += ", use_atomic_add on";
    Repack(linear);
  }

  std::string PathFor(std::int64_t rows) const override {
    if (!use_atomic_add_) return "_C::marlin_gemm";
    const std::int64_t atomic = vllm::MarlinAtomicRows(rows, n_);
    if (atomic == rows) return "_C::marlin_gemm with atomic adds";
    return atomic > 0 ? "_C::marlin_gemm with atomic adds for " + std::to_string(atomic) + " of the rows"
                      : "_C::marlin_gemm without atomic adds, which it does not use for so many columns and rows";
  }

 protected:
  at::Tensor Multiply(const at::Tensor& x) const override {
    const c10::IValue none;
    return gemm_(Stack{x, none, words_, none, scales_, none, none, zeros_, order_.groups, order_.order, workspace_,
                       type_, x.size(0), n_, k_, /*is_k_full=*/true, use_atomic_add_, use_fp32_reduce_,
                       /*is_zp_float=*/false})[0]
        .toTensor();
  }

 private:
  void Repack(const QuantizedLinear& linear) {
    const std::int64_t group = linear.group_size;
    if (n_ % 64 != 0) Refuse(linear, "vLLM's Marlin kernel needs N to be a multiple of 64");
    if (k_ % 128 != 0) Refuse(linear, "vLLM's Marlin kernel needs K to be a multiple of 128");
    if (group != k_ && group != 32 && group != 64 && group != 128) {
      Refuse(linear, "vLLM's Marlin kernel needs a group size of 32, 64, 128 or K, not " + std::to_string(group));
    }
    order_ = SortRows(linear, device_);
    const at::Tensor zeros = ZerosOf(linear, device_);
    const bool symmetric = linear.format == Format::kGptq && AllAre(zeros, 8);
    type_ = symmetric ? kUint4b8 : kUint4;
    if (!symmetric && !order_.none()) {
      Refuse(linear, "vLLM's Marlin kernel does not do desc_act with zero points other than 8");
    }
    zeros_ = symmetric ? at::empty({0}, zeros.options()) : vllm::MarlinZeros(zeros);
    scales_ = vllm::MarlinScales(linear.scales.to(device_), k_, group);
    workspace_ = MarlinWorkspace(device_);
    const at::Tensor qweight = linear.qweight.to(device_).contiguous();
    if (linear.format == Format::kAwq) {
      const BoxedOperator repack("_C::awq_marlin_repack", {"b_q_weight", "size_k", "size_n", "num_bits", "is_a_8bit"});
      words_ = repack(Stack{qweight, k_, n_, kBits, false})[0].toTensor();
    } else {
      const BoxedOperator repack("_C::gptq_marlin_repack",
                                 {"b_q_weight", "perm", "size_k", "size_n", "num_bits", "is_a_8bit"});
      words_ = repack(Stack{qweight, order_.order, k_, n_, kBits, false})[0].toTensor();
    }
  }

  BoxedOperator gemm_;
  bool use_atomic_add_ = false;
  bool use_fp32_reduce_ = true;
  std::int64_t type_ = 0;
  SortedRows order_;
  at::Tensor words_, scales_, zeros_, workspace_;
};

class AwqMatmul final : public VllmMatmul {
 public:
  AwqMatmul(KernelIdentity identity, const KernelRequest& request, const QuantizedLinear& linear, at::Device device)
      : VllmMatmul(std::move(identity), linear, device),
        gemm_("_C::awq_gemm", {"_in_feats", "_kernel", "_scaling_factors", "_zeros", "split_k_iters"}),
        dequantize_("_C::awq_dequantize", {"_kernel", "_scaling_factors", "_zeros", "split_k_iters", "thx", "thy"}),
        words_(linear.qweight.to(device).contiguous()),
        zeros_(linear.qzeros.to(device).contiguous()),
        scales_(linear.scales.to(device).contiguous()) {
    CheckOptions(request, {});
    if (n_ % 64 != 0) Refuse(linear, "vLLM's AWQ kernel needs N to be a multiple of 64");
    if (linear.group_size % 32 != 0) {
      Refuse(linear,
             "vLLM's AWQ kernel needs a group size that is a multiple of 32, not " + std::to_string(linear.group_size));
    }
    if (n_ % linear.group_size != 0) {
      Refuse(linear, "vLLM's AWQ kernel needs N to be a multiple of the group size " + std::to_string(linear.group_size));
    }
    // Slices are dealt out by 32 rows; each is rounded to fp16.
    const std::int64_t blocks = k_ / 32;
    identity_.rows_per_partial_sum = (blocks + kSlices - 1) / kSlices * 32;
  }

  std::string PathFor(std::int64_t rows) const override {
    return rows >= kManyRows ? "_C::awq_dequantize and aten::mm" : "_C::awq_gemm";
  }
  std::string OperatorFor(std::int64_t rows) const override {
    return rows >= kManyRows ? "_C::awq_dequantize" : "_C::awq_gemm";
  }

 protected:
  at::Tensor Multiply(const at::Tensor& x) const override {
    if (x.size(0) >= kManyRows) {
      constexpr std::int64_t kDefault = 0;
      return at::mm(x, dequantize_(Stack{words_, scales_, zeros_, kDefault, kDefault, kDefault})[0].toTensor());
    }
    return gemm_(Stack{x, words_, scales_, zeros_, kSlices})[0].toTensor();
  }

 private:
  static constexpr std::int64_t kSlices = 8;      // vLLM passes the codes in a word
  static constexpr std::int64_t kManyRows = 256;  // from which vLLM dequantizes

  BoxedOperator gemm_;
  BoxedOperator dequantize_;
  at::Tensor words_, zeros_, scales_;
};

class GptqMatmul final : public VllmMatmul {
 public:
  GptqMatmul(KernelIdentity identity, const KernelRequest& request, const QuantizedLinear& linear, at::Device device)
      : VllmMatmul(std::move(identity), linear, device),
        gemm_("_C::gptq_gemm",
              {"a", "b_q_weight", "b_gptq_qzeros", "b_gptq_scales", "b_g_idx", "use_exllama", "use_v2_format", "bit"}),
        scales_(linear.scales.to(device).contiguous()) {
    CheckOptions(request, {});
    if (linear.group_size % 32 != 0) {
      Refuse(linear, "vLLM's GPTQ kernel needs a group size that is a multiple of 32, not " +
                         std::to_string(linear.group_size));
    }
    order_ = SortRows(linear, device);
    use_v2_format_ = !linear.gptq_v1_zeros;
    zeros_ = linear.qzeros.to(device).contiguous();
    if (linear.gptq_v1_zeros) {
      // The kernel adds one to each code apart, so that a zero point of 0, which
      // is stored with a borrow, has to be given to it as the other format's.
      const at::Tensor zeros = vllm::GptqZeros(zeros_, /*v1=*/true);
      if (zeros.eq(0).any().item<bool>()) {
        zeros_ = vllm::PackColumns(zeros);
        use_v2_format_ = true;
      }
    }
    words_ = linear.qweight.to(device).contiguous().clone();
    Shuffle(device);
  }

  std::string PathFor(std::int64_t rows) const override {
    return rows > kOwnRows ? "_C::gptq_gemm (reconstruct_exllama_4bit and cublasHgemm)"
                           : "_C::gptq_gemm (gemm_half_q_half_gptq_4bit)";
  }

 protected:
  at::Tensor Multiply(const at::Tensor& x) const override {
    return gemm_(Stack{x, words_, zeros_, scales_, order_.order, /*use_exllama=*/true, use_v2_format_, kBits})[0]
        .toTensor();
  }

 private:
  static constexpr std::int64_t kOwnRows = 50;  // above which the operator dequantizes

  // In place. With desc_act the operator permutes on the current stream and copies
  // the result back on the default one, without an order between the two: on
  // another stream the copy may come first. So it is called on the default stream,
  // with nothing under way before or after.
  void Shuffle([[maybe_unused]] at::Device device) {
    const BoxedOperator shuffle("_C::gptq_shuffle", {"q_weight", "q_perm", "bit"});
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
    c10::cuda::getCurrentCUDAStream(device.index()).synchronize();
    const c10::cuda::CUDAStream default_stream = c10::cuda::getDefaultCUDAStream(device.index());
    const c10::cuda::CUDAStreamGuard guard(default_stream);
    shuffle(Stack{words_, order_.order, kBits});
    default_stream.synchronize();
#else
    shuffle(Stack{words_, order_.order, kBits});
#endif
  }

  BoxedOperator gemm_;
  bool use_v2_format_ = false;
  SortedRows order_;
  at::Tensor words_, zeros_, scales_;
};

bool IsCuda(const std::string& device) { return device == "cuda" || device.starts_with("cuda:"); }

}  // namespace

std::vector<KernelIdentity> VllmKernels() {
  std::vector<KernelIdentity> identities;
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  for (const Family& family : Families()) identities.push_back(family.identity);
#endif
  return identities;
}

bool WantsVllm(const KernelRequest& request) {
  const Family* const family = FamilyOf(request.family);
  if (family == nullptr || !IsCuda(request.device)) return false;
  if (request.provider == "vllm") return true;
  if (request.provider != "auto" || TorchCuda().devices == 0) return false;
  const std::string reason = WhyNoVllm(request.family);
  const char* const named = std::getenv("QUANT_OP_LIBRARIES");
  if (!reason.empty() && named != nullptr && *named != '\0') throw std::invalid_argument(reason);
  return reason.empty();
}

std::unique_ptr<Int4Matmul> MakeVllm(const KernelRequest& request, const QuantizedLinear& linear) {
  const Family& family = *FamilyOf(request.family);
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(CudaDeviceIndex(request.device)));
  const bool gptq = linear.format == Format::kGptq, awq = linear.format == Format::kAwq;
  const bool reads = request.family == "marlin" ? gptq || awq : request.family == "awq" ? awq : gptq;
  if (!reads) {
    Refuse(linear, "kernel " + request.family + "/vllm does not read " + std::string(NameOf(linear.format)));
  }
  OpenFor(family);
  KernelIdentity identity = family.identity;
  const std::optional<OpLibrary> library = LibraryOfOperator(identity.op);
  identity.version = library ? Describe(*library) : "registered before any op library was opened";
  if (request.family == "marlin") return std::make_unique<MarlinMatmul>(identity, request, linear, device);
  if (request.family == "awq") return std::make_unique<AwqMatmul>(identity, request, linear, device);
  return std::make_unique<GptqMatmul>(identity, request, linear, device);
}

}  // namespace internal

std::string WhyNoVllm(const std::string& family) {
  const internal::Family* const found = internal::FamilyOf(family);
  if (found == nullptr) return "provider vllm has no kernel of the family " + family;
  try {
    internal::OpenFor(*found);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace kernels
