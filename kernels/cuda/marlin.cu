// marlin and awq for more rows than stream.cu takes, by mma.sync.
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/launch_internal.cuh"
#include "kernels/cuda/stream_launch.cuh"

namespace kernels::cuda {

template <int kRowBlocks, int kParts>
__global__ void __launch_bounds__(kTileWarps * 32, 2) MarlinGemmTile(const __grid_constant__ Args args) {
  TileBody<MarlinTile<2, kParts>, kRowBlocks>(args);
}

template <int kParts>
__global__ void __launch_bounds__(kDequantizeWarps * 32)
    DequantizeToHalf(const __grid_constant__ Args args, __half* w) {
  DequantizeBody<kParts>(args, w);
}

namespace {

template <int kRowBlocks>
void Tiles(const Args& args, cudaStream_t stream) {
  const dim3 grid(Blocks(args.gemm.n, kTileWarps * 32), args.splits, Blocks(args.gemm.m, 8 * kRowBlocks));
  constexpr std::size_t kShared = TileSharedBytes(kRowBlocks);
  static_assert(kShared <= 48 * 1024, "what a kernel may use without asking");
  WithParts(args.gemm, [&]<int kParts>() {
    LaunchKernel<MarlinGemmTile<kRowBlocks, kParts>>("MarlinGemmTile", grid, kTileWarps * 32, kShared, stream, args);
  });
}

}  // namespace

void MarlinGemm(const Gemm& gemm, const Plan& plan, void* workspace, cudaStream_t stream) {
  if (gemm.m == 0) return;
  if (plan.path == Path::kStream) {
    MarlinStream(gemm, plan, stream);
    return;
  }
  const Args args = ArgsOf(gemm, plan, workspace);
  if (plan.row_blocks == 4) {
    Tiles<4>(args, stream);
  } else if (plan.row_blocks == 8) {
    Tiles<8>(args, stream);
  } else {
    Tiles<16>(args, stream);
  }
  AddSplits(args, stream);
}

void DequantizeWeights(const Gemm& gemm, void* w, cudaStream_t stream) {
  const Args args = ArgsOf(gemm, Plan(), nullptr);
  const dim3 grid(Blocks(args.k_tiles, kDequantizeWarps), Blocks(gemm.n, kMarlinColumns));
  WithParts(gemm, [&]<int kParts>() {
    LaunchKernel<DequantizeToHalf<kParts>>("DequantizeToHalf", grid, kDequantizeWarps * 32, 0, stream, args,
                                           static_cast<__half*>(w));
  });
}

}  // namespace kernels::cuda
