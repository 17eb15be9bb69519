// awq: AutoAWQ's words as they are.
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/launch_internal.cuh"

namespace kernels::cuda {

template <int kRowBlocks, bool kSplitGroups>
__global__ void __launch_bounds__(kStreamWarps * 32, 2) AwqGemmStream(const __grid_constant__ Args args) {
  StreamBody<AwqTile<kSplitGroups>, kRowBlocks, kRowBlocks == 1 ? 3 : 2>(args);
}

template <int kRowBlocks, bool kSplitGroups>
__global__ void __launch_bounds__(kTileWarps * 32, 2) AwqGemmTile(const __grid_constant__ Args args) {
  TileBody<AwqTile<kSplitGroups>, kRowBlocks>(args);
}

// W as [k, n]: one word is eight neighbouring weights.
__global__ void __launch_bounds__(256) AwqDequantizeWeights(const __grid_constant__ Args args, uint4* w) {
  const Gemm& gemm = args.gemm;
  const int stride = gemm.n / 8;
  const int column = blockIdx.x * 32 + threadIdx.x % 32, k = blockIdx.y * 8 + threadIdx.x / 32;
  if (column >= stride || k >= gemm.k) return;
  const std::size_t group = static_cast<std::size_t>(GroupOf(args, k)) * stride + column;
  AwqTile<false> tile;  // for its Pair() only
  const uint4 scales = __ldg(static_cast<const uint4*>(gemm.scales) + group);
  tile.scales[0][0] = scales.x, tile.scales[0][1] = scales.y, tile.scales[0][2] = scales.z,
  tile.scales[0][3] = scales.w;
  tile.zeros[0] = __ldg(static_cast<const std::uint32_t*>(gemm.zeros) + group);
  const std::size_t at = static_cast<std::size_t>(k) * stride + column;
  const std::uint32_t word = LoadOnce(gemm.words + at);
  w[at] = make_uint4(tile.Pair(0, word, 0), tile.Pair(1, word, 0), tile.Pair(2, word, 0), tile.Pair(3, word, 0));
}

namespace {

template <int kRowBlocks>
void Stream(const Args& args, cudaStream_t stream) {
  const dim3 grid(Blocks(args.gemm.n, 64), args.splits);
  if (SplitsGroups(args.gemm)) {
    AwqGemmStream<kRowBlocks, true><<<grid, kStreamWarps * 32, 0, stream>>>(args);
  } else {
    AwqGemmStream<kRowBlocks, false><<<grid, kStreamWarps * 32, 0, stream>>>(args);
  }
}

template <int kRowBlocks>
void Tiles(const Args& args, cudaStream_t stream) {
  const dim3 grid(Blocks(args.gemm.n, kTileWarps * 64), args.splits, Blocks(args.gemm.m, 8 * kRowBlocks));
  constexpr std::size_t kShared = TileSharedBytes(kRowBlocks);
  if (SplitsGroups(args.gemm)) {
    AwqGemmTile<kRowBlocks, true><<<grid, kTileWarps * 32, kShared, stream>>>(args);
  } else {
    AwqGemmTile<kRowBlocks, false><<<grid, kTileWarps * 32, kShared, stream>>>(args);
  }
}

}  // namespace

void AwqGemm(const Gemm& gemm, const Plan& plan, void* workspace, cudaStream_t stream) {
  if (gemm.m == 0) return;
  const Args args = ArgsOf(gemm, plan, workspace);
  if (plan.path == Path::kStream) {
    plan.row_blocks == 1 ? Stream<1>(args, stream) : Stream<2>(args, stream);
  } else {
    plan.row_blocks == 4 ? Tiles<4>(args, stream) : Tiles<8>(args, stream);
  }
  CheckLaunch("AwqGemm");
  AddSplits(args, stream);
}

void AwqDequantize(const Gemm& gemm, void* w, cudaStream_t stream) {
  const dim3 grid(Blocks(gemm.n / 8, 32), Blocks(gemm.k, 8));
  AwqDequantizeWeights<<<grid, 256, 0, stream>>>(ArgsOf(gemm, Plan(), nullptr), static_cast<uint4*>(w));
  CheckLaunch("AwqDequantizeWeights");
}

}  // namespace kernels::cuda
