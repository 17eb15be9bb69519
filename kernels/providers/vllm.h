// Provider "vllm": the INT4 matmuls of the PyPI wheel vllm, as vLLM 0.23.0 calls
// them: _C::marlin_gemm, _C::awq_gemm, _C::gptq_gemm, each after its own
// repacking, which runs on the device. The wheel has marlin_gemm as PTX for sm_80
// where the card is an sm_90: its first call on a machine takes the driver some 30 s,
// once for each kind of zero points, until the driver's cache has it.
#ifndef KERNELS_PROVIDERS_VLLM_H_
#define KERNELS_PROVIDERS_VLLM_H_

#include <memory>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"

namespace kernels {

// "" where the operators of `family` are registered, in an op library that was
// opened before or is found now (FindOpLibraries()) and opened; else one line
// that says why not. Never throws.
std::string WhyNoVllm(const std::string& family);

namespace internal {

// The kernels as far as they are known before a library is opened; none in a
// build without device code.
std::vector<KernelIdentity> VllmKernels();

// Whether the request is for this provider: by its name, or "auto" on CUDA for
// one of its families where its library is there. Throws std::invalid_argument
// where $QUANT_OP_LIBRARIES names a library for "auto" that cannot be opened.
bool WantsVllm(const KernelRequest& request);

// `linear` has passed CheckLayer(). Options of KernelRequest:
//   use_atomic_add   marlin: "vllm" (default): as vLLM decides, where
//                    $VLLM_MARLIN_USE_ATOMIC_ADD is 1 for N < 2048 and K >= 2048,
//                    else not; "true" or "false": in every call
//   use_fp32_reduce  marlin: "true" (default, as vLLM) or "false"
std::unique_ptr<Int4Matmul> MakeVllm(const KernelRequest& request, const QuantizedLinear& linear);

}  // namespace internal
}  // namespace kernels

#endif  // KERNELS_PROVIDERS_VLLM_H_
