// marlin and awq for few rows of x.
#include "kernels/cuda/stream_launch.cuh"

namespace kernels::cuda {

template <int kRowBlocks, int kGroups>
__global__ void __launch_bounds__(32 * StreamWarps(kRowBlocks), StreamResidentBlocks(kRowBlocks))
    MarlinGemmStream(const __grid_constant__ StreamArgs args) {
  StreamBody<kRowBlocks, kGroups, Sums::kFloat>(args);
}

void MarlinStream(const Gemm& gemm, const Plan& plan, cudaStream_t stream) {
  WithStreamShape(gemm, plan, [&]<int kRowBlocks, int kGroups>() {
    LaunchStreamKernel<kRowBlocks, Sums::kFloat, MarlinGemmStream<kRowBlocks, kGroups>>(gemm, plan, "MarlinGemmStream",
                                                                                        stream);
  });
}

}  // namespace kernels::cuda
