// marlin: weights in Marlin order.
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/launch_internal.cuh"

namespace kernels::cuda {

template <int kColumnBlocks, int kRowBlocks, bool kSplitGroups>
__global__ void __launch_bounds__(kStreamWarps * 32, 2) MarlinGemmStream(const __grid_constant__ Args args) {
  StreamBody<MarlinTile<kColumnBlocks, kSplitGroups>, kRowBlocks, kRowBlocks == 1 ? 4 : 3>(args);
}

template <int kRowBlocks, bool kSplitGroups>
__global__ void __launch_bounds__(kTileWarps * 32, 2) MarlinGemmTile(const __grid_constant__ Args args) {
  TileBody<MarlinTile<2, kSplitGroups>, kRowBlocks>(args);
}

template <bool kSplitGroups>
__global__ void __launch_bounds__(kDequantizeWarps * 32)
    MarlinDequantizeWeights(const __grid_constant__ Args args, __half* w) {
  DequantizeAlongKBody<MarlinTile<1, kSplitGroups>>(args, w);
}

namespace {

template <int kColumnBlocks, int kRowBlocks>
void Stream(const Args& args, cudaStream_t stream) {
  const dim3 grid(Blocks(args.gemm.n, 16 * kColumnBlocks), args.splits);
  if (SplitsGroups(args.gemm)) {
    MarlinGemmStream<kColumnBlocks, kRowBlocks, true><<<grid, kStreamWarps * 32, 0, stream>>>(args);
  } else {
    MarlinGemmStream<kColumnBlocks, kRowBlocks, false><<<grid, kStreamWarps * 32, 0, stream>>>(args);
  }
}

template <int kRowBlocks>
void Tiles(const Args& args, cudaStream_t stream) {
  const dim3 grid(Blocks(args.gemm.n, kTileWarps * 32), args.splits, Blocks(args.gemm.m, 8 * kRowBlocks));
  constexpr std::size_t kShared = TileSharedBytes(kRowBlocks);
  static_assert(kShared <= 48 * 1024, "what a kernel may use without asking");
  if (SplitsGroups(args.gemm)) {
    MarlinGemmTile<kRowBlocks, true><<<grid, kTileWarps * 32, kShared, stream>>>(args);
  } else {
    MarlinGemmTile<kRowBlocks, false><<<grid, kTileWarps * 32, kShared, stream>>>(args);
  }
}

}  // namespace

void MarlinGemm(const Gemm& gemm, const Plan& plan, void* workspace, cudaStream_t stream) {
  if (gemm.m == 0) return;
  const Args args = ArgsOf(gemm, plan, workspace);
  if (plan.path == Path::kStream) {
    const bool two = plan.column_blocks == 2;
    if (plan.row_blocks == 1) {
      two ? Stream<2, 1>(args, stream) : Stream<1, 1>(args, stream);
    } else {
      two ? Stream<2, 2>(args, stream) : Stream<1, 2>(args, stream);
    }
  } else if (plan.row_blocks == 4) {
    Tiles<4>(args, stream);
  } else if (plan.row_blocks == 8) {
    Tiles<8>(args, stream);
  } else {
    Tiles<16>(args, stream);
  }
  CheckLaunch("MarlinGemm");
  AddSplits(args, stream);
}

void MarlinDequantize(const Gemm& gemm, void* w, cudaStream_t stream) {
  const Args args = ArgsOf(gemm, Plan(), nullptr);
  const dim3 grid(Blocks(gemm.n, 16), Blocks(args.k_tiles, kDequantizeWarps));
  if (SplitsGroups(gemm)) {
    MarlinDequantizeWeights<true><<<grid, kDequantizeWarps * 32, 0, stream>>>(args, static_cast<__half*>(w));
  } else {
    MarlinDequantizeWeights<false><<<grid, kDequantizeWarps * 32, 0, stream>>>(args, static_cast<__half*>(w));
  }
  CheckLaunch("MarlinDequantizeWeights");
}

}  // namespace kernels::cuda
