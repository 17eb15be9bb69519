// gptq: slices of 128 rows of K, each a partial sum that is rounded to fp16 and
// then added to the others: in arrival order by half2 atomic adds, as the kernel
// of exllama and vLLM does it, or in ascending order by the ordered twin. Up to 16
// rows by the kernels of stream.cuh, whose units are the slices; then by tiles.
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
// beforehand where kOrdered is false.
template <int kRowBlocks, int kParts, bool kOrdered>
__device__ __forceinline__ void SliceBody(const Args& args) {
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
        if constexpr (kOrdered) {
          __half* const to = static_cast<__half*>(args.partial) + static_cast<std::size_t>(slice) * gemm.m * gemm.n;
          *reinterpret_cast<__half2*>(to + at) = sum;
        } else {
          atomicAdd(reinterpret_cast<__half2*>(static_cast<__half*>(gemm.y) + at), sum);
        }
      }
    }
  }
}

template <int kRowBlocks, int kParts>
__global__ void __launch_bounds__(kSliceWarps * 32) GptqGemmArrival(const __grid_constant__ Args args) {
  SliceBody<kRowBlocks, kParts, false>(args);
}

template <int kRowBlocks, int kParts>
__global__ void __launch_bounds__(kSliceWarps * 32) GptqGemmOrdered(const __grid_constant__ Args args) {
  SliceBody<kRowBlocks, kParts, true>(args);
}

// The fp16 sum of the slices, from +0 up, in ascending order: eight columns a thread.
__global__ void __launch_bounds__(128)
    GptqAddSlicesInOrder(const uint4* partial, int slices, std::size_t eights, uint4* y) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= eights) return;
  std::uint32_t sum[4] = {0, 0, 0, 0};
#pragma unroll 4
  for (int s = 0; s < slices; ++s) {
    const uint4 v = partial[s * eights + i];
    const std::uint32_t part[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int c = 0; c < 4; ++c) sum[c] = Bits(__hadd2(Half2(sum[c]), Half2(part[c])));
  }
  y[i] = make_uint4(sum[0], sum[1], sum[2], sum[3]);
}

namespace {

template <int kRowBlocks>
void Slices(const Args& args, bool ordered, cudaStream_t stream) {
  const dim3 grid(args.splits, Blocks(args.gemm.n, kSliceWarps * 32));
  constexpr int kThreads = kSliceWarps * 32;
  WithParts(args.gemm, [&]<int kParts>() {
    ordered ? GptqGemmOrdered<kRowBlocks, kParts><<<grid, kThreads, 0, stream>>>(args)
            : GptqGemmArrival<kRowBlocks, kParts><<<grid, kThreads, 0, stream>>>(args);
  });
}

}  // namespace

void GptqGemm(const Gemm& gemm, const Plan& plan, bool ordered, void* workspace, cudaStream_t stream) {
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
  const Args args = ArgsOf(gemm, plan, workspace);
  if (!ordered) {
    if (const cudaError_t error = cudaMemsetAsync(gemm.y, 0, count * sizeof(__half), stream); error != cudaSuccess) {
      throw std::runtime_error(std::string("CUDA refused to zero the result of gptq_gemm: ") +
                               cudaGetErrorString(error));
    }
  }
  switch (plan.row_blocks) {
    case 1:
      Slices<1>(args, ordered, stream);
      break;
    case 2:
      Slices<2>(args, ordered, stream);
      break;
    case 4:
      Slices<4>(args, ordered, stream);
      break;
    default:
      Slices<7>(args, ordered, stream);
  }
  CheckLaunch("GptqGemm");
  if (!ordered) return;
  GptqAddSlicesInOrder<<<Blocks(static_cast<std::int64_t>(count / 8), 128), 128, 0, stream>>>(
      static_cast<const uint4*>(workspace), args.splits, count / 8, static_cast<uint4*>(gemm.y));
  CheckLaunch("GptqAddSlicesInOrder");
}

}  // namespace kernels::cuda
