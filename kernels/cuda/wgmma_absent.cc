// In place of wgmma.cu where the device code is not built for sm_90a.
#include <stdexcept>

#include "kernels/cuda/launch.h"

namespace kernels::cuda {

bool HasWgmma() { return false; }

void WgmmaGemm(const Gemm& /*gemm*/, const Plan& /*plan*/, cudaStream_t /*stream*/) {
  throw std::runtime_error("wgmma: this build has no code for sm_90a");
}

}  // namespace kernels::cuda
