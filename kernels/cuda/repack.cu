// Repacking on the device, and the sum of splits.
#include "kernels/cuda/launch_internal.cuh"

namespace kernels::cuda {
namespace {

__device__ __forceinline__ std::uint32_t CodeAt(const Repack& from, int k, int n) {
  const std::int64_t row = from.row_order != nullptr ? from.row_order[k] : k;
  if (from.layout == CodeLayout::kAwq) {
    return from.words[row * (from.n / 8) + n / 8] >> (4 * AwqNibbleOfColumn(n % 8)) & 15u;
  }
  return from.words[row / 8 * from.n + n] >> (4 * (row % 8)) & 15u;
}

}  // namespace

__global__ void __launch_bounds__(256)
    MarlinRepack(const Repack from, int k_tiles, std::size_t count, std::uint32_t* out) {
  const std::size_t at = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int j = static_cast<int>(at % 4), lane = static_cast<int>(at / 4 % 32), g = lane / 4, t = lane % 4;
  const std::size_t tile = at / 128;
  const int first_k = static_cast<int>(tile % k_tiles) * kTileK;
  const int first_n = static_cast<int>(tile / k_tiles) * kMarlinColumns;
  std::uint32_t word = 0;
  for (int i = 0; i < 8; ++i) {  // nibble upper + 2 pair + 4 h
    const int k = first_k + RowOfPlace(t, j, i / 2 % 2, i / 4), n = first_n + ColumnOfPlace(g, i % 2);
    if (k < from.k && n < from.n) word |= CodeAt(from, k, n) << (4 * i);
  }
  out[at] = word;
}

__global__ void __launch_bounds__(256)
    GroupsRepack(const std::uint32_t* zeros, CodeLayout layout, std::uint32_t add, const __half* scales, int n,
                 int padded_n, std::size_t count, std::uint8_t* out_zeros, __half* out_scales) {
  const std::size_t at = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int column = static_cast<int>(at % padded_n);
  const std::size_t group = at / padded_n;
  std::uint8_t zero = 0;
  __half scale = __ushort_as_half(0);
  if (column < n) {
    const int nibble = layout == CodeLayout::kAwq ? AwqNibbleOfColumn(column % 8) : column % 8;
    zero = static_cast<std::uint8_t>((zeros[group * (n / 8) + column / 8] + add) >> (4 * nibble) & 15u);
    scale = scales[group * n + column];
  }
  out_zeros[at] = zero;
  out_scales[at] = scale;
}

// Four columns a thread.
__global__ void __launch_bounds__(128)
    AddSplitsInOrder(const float4* partial, int splits, std::size_t fours, uint2* y) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= fours) return;
  float4 sum = partial[i];
#pragma unroll 4
  for (int s = 1; s < splits; ++s) {
    const float4 v = partial[s * fours + i];
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  y[i] = make_uint2(Bits(__floats2half2_rn(sum.x, sum.y)), Bits(__floats2half2_rn(sum.z, sum.w)));
}

void AddSplits(const Args& args, cudaStream_t stream) {
  if (args.splits == 1) return;
  const std::size_t fours = static_cast<std::size_t>(args.gemm.m) * args.gemm.n / 4;
  LaunchKernel<AddSplitsInOrder>("AddSplitsInOrder", Blocks(static_cast<std::int64_t>(fours), 128), 128, 0, stream,
                                 static_cast<const float4*>(args.partial), args.splits, fours,
                                 static_cast<uint2*>(args.gemm.y));
}

std::int64_t WorkspaceBytes(const Plan& plan, std::int64_t m, std::int64_t n) {
  return plan.path == Path::kTile && plan.splits > 1 ? plan.splits * m * n * 4 : 0;
}

void GemmBy(Family family, const Gemm& gemm, const Plan& plan, void* workspace, cudaStream_t stream) {
  const bool gptq = family == Family::kGptq || family == Family::kGptqOrdered;
  if (plan.path == Path::kWgmma) {
    WgmmaGemm(gemm, plan, stream);
  } else if (gptq && plan.path != Path::kTile) {
    GptqGemm(gemm, plan, family == Family::kGptqOrdered, stream);
  } else {
    MarlinGemm(gemm, plan, workspace, stream);
  }
}

void RepackMarlin(const Repack& repack, std::uint32_t* out, cudaStream_t stream) {
  const std::int64_t k_tiles = RoundUp(repack.k, kTileK) / kTileK;
  const std::int64_t count = RoundUp(repack.n, kMarlinColumns) / kMarlinColumns * k_tiles * 128;
  LaunchKernel<MarlinRepack>("MarlinRepack", Blocks(count, 256), 256, 0, stream, repack, static_cast<int>(k_tiles),
                             static_cast<std::size_t>(count), out);
}

void RepackGroups(const std::uint32_t* zeros, CodeLayout layout, std::uint32_t add, const void* scales, int groups,
                  int n, int padded_n, std::uint8_t* out_zeros, void* out_scales, cudaStream_t stream) {
  const std::int64_t count = static_cast<std::int64_t>(groups) * padded_n;
  LaunchKernel<GroupsRepack>("GroupsRepack", Blocks(count, 256), 256, 0, stream, zeros, layout, add,
                             static_cast<const __half*>(scales), n, padded_n, static_cast<std::size_t>(count),
                             out_zeros, static_cast<__half*>(out_scales));
}

}  // namespace kernels::cuda
