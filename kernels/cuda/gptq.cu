// gptq: slices of 128 rows of K, each a partial sum that is rounded to fp16 and
// then added to the others: in arrival order by half2 atomic adds, as the kernel
// of exllama and vLLM does it, or in a fixed order by the ordered twin. Up to 16
// rows by the kernels of stream.cuh, whose units are the slices; then, in arrival
// order, by blocks of one slice each.
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/launch_internal.cuh"
#include "kernels/cuda/stream_launch.cuh"

namespace kernels::cuda {

static_assert(kUnitK == kSliceK);

template <int kRowBlocks, int kGroups>
__global__ void __launch_bounds__(32 * StreamWarps(kRowBlocks), StreamResidentBlocks(kRowBlocks))
    GptqGemmArrivalStream(const __grid_constant__ StreamArgs args) {
  StreamBody<kRowBlocks, kGroups, Sums::kHalfArrival>(args);
}

template <int kRowBlocks, int kGroups>
__global__ void __launch_bounds__(32 * StreamWarps(kRowBlocks), StreamResidentBlocks(kRowBlocks))
    GptqGemmOrderedStream(const __grid_constant__ StreamArgs args) {
  StreamBody<kRowBlocks, kGroups, Sums::kHalfOrdered>(args);
}

inline constexpr int kSliceWarps = 4;

// Grid: (slices, columns): the slices of an output are launched together. y is 0
// beforehand.
template <int kRowBlocks, int kParts>
__global__ void __launch_bounds__(kSliceWarps * 32) GptqGemmArrival(const __grid_constant__ Args args) {
  using Tile = MarlinTile<2, kParts>;
  constexpr int kRows = 8 * kRowBlocks, kTiles = static_cast<int>(kSliceK) / kTileK;
  __shared__ uint4 x[kTiles][kRows * 8];
  const Gemm& gemm = args.gemm;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, slice = blockIdx.x;
  const int column = (blockIdx.y * kSliceWarps + warp) * Tile::kColumns;
  Tile tiles[kTiles];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) tiles[i].Load(args, slice * kTiles + i, column, lane);
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    CopyToShared(args, slice * kTiles + i, 0, kRows, threadIdx.x, kSliceWarps * 32, x[i]);
  }
  CommitCopies();
  WaitForCopies<0>();
  __syncthreads();
  float sums[Tile::kBlocks][kRowBlocks][4] = {};
#pragma unroll
  for (int i = 0; i < kTiles; ++i) MultiplyTile<Tile, kRowBlocks>(args, tiles[i], x[i], lane, sums);
#pragma unroll
  for (int b = 0; b < Tile::kBlocks; ++b) {
    const int n = column + Tile::Column(b, lane / 4);
    if (n >= gemm.n) continue;
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 8 * r + 2 * (lane % 4) + h;
        if (row >= gemm.m) continue;
        const __half2 sum = __floats2half2_rn(sums[b][r][h], sums[b][r][h + 2]);
        const std::size_t at = static_cast<std::size_t>(row) * gemm.n + n;
        stream::AddToMemory(static_cast<__half*>(gemm.y) + at, Bits(sum));
      }
    }
  }
}

namespace {

template <int kRowBlocks>
void Slices(const Args& args, cudaStream_t stream) {
  const dim3 grid(args.splits, Blocks(args.gemm.n, kSliceWarps * 32));
  WithParts(args.gemm, [&]<int kParts>() {
    LaunchKernel<GptqGemmArrival<kRowBlocks, kParts>>("GptqGemmArrival", grid, kSliceWarps * 32, 0, stream, args);
  });
}

}  // namespace

void GptqGemm(const Gemm& gemm, const Plan& plan, bool ordered, cudaStream_t stream) {
  if (gemm.m == 0) return;
  if (plan.path == Path::kStream) {
    WithStreamShape(gemm, plan, [&]<int kRowBlocks, int kGroups>() {
      if (ordered) {
        LaunchStreamKernel<kRowBlocks, Sums::kHalfOrdered, GptqGemmOrderedStream<kRowBlocks, kGroups>>(
            gemm, plan, "GptqGemmOrderedStream", stream);
      } else {
        LaunchStreamKernel<kRowBlocks, Sums::kHalfArrival, GptqGemmArrivalStream<kRowBlocks, kGroups>>(
            gemm, plan, "GptqGemmArrivalStream", stream);
      }
    });
    return;
  }
  const std::size_t count = static_cast<std::size_t>(gemm.m) * gemm.n;
  const Args args = ArgsOf(gemm, plan, nullptr);
  CheckLaunch("the memset ahead of GptqGemmArrival", cudaMemsetAsync(gemm.y, 0, count * sizeof(__half), stream));
  switch (plan.row_blocks) {
    case 1:
      Slices<1>(args, stream);
      break;
    case 2:
      Slices<2>(args, stream);
      break;
    case 4:
      Slices<4>(args, stream);
      break;
    default:
      Slices<7>(args, stream);
  }
}

}  // namespace kernels::cuda
