// Common to the launch functions.
#ifndef KERNELS_CUDA_LAUNCH_INTERNAL_CUH_
#define KERNELS_CUDA_LAUNCH_INTERNAL_CUH_

#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/launch_kernel.cuh"

namespace kernels::cuda {

inline Args ArgsOf(const Gemm& gemm, const Plan& plan, void* partial) {
  Args args;
  args.gemm = gemm;
  args.group_inverse = GroupInverse(static_cast<std::uint32_t>(gemm.group_size));
  args.k_tiles = static_cast<int>(RoundUp(gemm.k, kTileK) / kTileK);
  args.tiles_per_split = static_cast<int>(plan.tiles_per_split);
  args.splits = static_cast<int>(plan.splits);
  args.partial = partial;
  return args;
}

inline unsigned Blocks(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// Calls `f` with kParts of MarlinTile as its template argument.
template <class Function>
void WithParts(const Gemm& gemm, Function f) {
  if (gemm.group_size % kTileK == 0) {
    f.template operator()<1>();
  } else if (gemm.group_size % (kTileK / 2) == 0) {
    f.template operator()<2>();
  } else {
    f.template operator()<8>();
  }
}

// Adds up the workspace of a plan that splits K; nothing where it does not.
void AddSplits(const Args& args, cudaStream_t stream);

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_LAUNCH_INTERNAL_CUH_
