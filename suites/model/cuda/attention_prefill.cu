// Attention of a prompt on sm_90a, for which alone this file is compiled: warpgroup
// products, fed by tensor copies.
//
// A block takes 128 rows of one query head, 64 to each of two warpgroups; a third
// copies the keys and values, 128 positions at a time, in ascending order up to
// the rows' own. While a warpgroup's weights of one tile meet its values, its
// scores of the next are computed. Each row's sums run in that order whatever
// other rows there are.
#include <cuda.h>

#include <cfloat>
#include <stdexcept>
#include <string>

#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"
#include "suites/model/cuda/warpgroup.cuh"

namespace suites::internal {
namespace {

constexpr int kDim = 128;
constexpr int kRowsOfGroup = 64;
constexpr int kGroups = 2;
constexpr int kRows = kGroups * kRowsOfGroup;
constexpr int kPositions = 128;
constexpr int kStages = 2;
constexpr int kThreads = 128 * (kGroups + 1);
constexpr int kHalfQuery = kRowsOfGroup * 128;  // bytes of 64 of the dimensions
constexpr int kHalfTile = kPositions * 128;
constexpr int kQueryBytes = kGroups * 2 * kHalfQuery;
constexpr int kTileBytes = 2 * kHalfTile;
constexpr int kSharedBytes = kQueryBytes + 2 * kStages * kTileBytes + 1024;  // and to align
constexpr float kLog2E = 1.44269504f;

struct Maps {
  CUtensorMap query, keys, values;
};

struct Shape {
  void* out;
  int rows, past, q_heads, group;
  float scale;
};

struct Barrier {
  std::uint64_t word;
  __device__ unsigned address() const { return static_cast<unsigned>(__cvta_generic_to_shared(&word)); }
  __device__ void Init(int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address()), "r"(arrivals));
  }
  __device__ void Expect(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
  }
  __device__ void Arrive() { asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(address()) : "memory"); }
  // Until the phase of that parity has ended.
  __device__ void Wait(int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(address()),
        "r"(parity)
        : "memory");
  }
};

__device__ void CopyTile(void* to, const CUtensorMap& map, int x, int y, int z, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::
          "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier.address())
      : "memory");
}

template <class T>
__device__ std::uint32_t PairOf(float low, float high) {
  const Pair<T> pair{Narrow<T>(low), Narrow<T>(high)};
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Zero below the normal numbers.
__device__ float PowerOfTwo(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A warpgroup's scores of one tile become weights, in place. Returns by what the
// sums so far are to be multiplied. Row e / 2 % 2 of a lane's two is that of score[e].
__device__ void Soften(float (&score)[64], float (&largest)[2], float (&total)[2], float (&factor)[2], float scale) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float most = largest[r];
#pragma unroll
    for (int n = 0; n < 16; ++n) most = fmaxf(most, fmaxf(score[4 * n + 2 * r], score[4 * n + 2 * r + 1]));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    // Rounded alike, so that the factor is one where the largest stays: a tile that
    // a row does not see changes nothing.
    const float shift = __fmul_rn(most, scale);
    factor[r] = PowerOfTwo(__fmul_rn(largest[r], scale) - shift);
    largest[r] = most;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 16; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& value = score[4 * n + 2 * r + e];
        value = PowerOfTwo(fmaf(value, scale, -shift));
        sum += value;
      }
    }
    total[r] = total[r] * factor[r] + sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) AttendPrompt(const __grid_constant__ Maps maps, Shape shape) {
  extern __shared__ unsigned char raw[];
  __shared__ Barrier query_full, keys_full[kStages], keys_free[kStages], values_full[kStages], values_free[kStages];
  unsigned char* const query = raw + (1024 - static_cast<unsigned>(__cvta_generic_to_shared(raw)) % 1024) % 1024;
  unsigned char* const keys = query + kQueryBytes;
  unsigned char* const values = keys + kStages * kTileBytes;

  const int head = blockIdx.x;
  // The longest first.
  const int first_row = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kRows;
  const int last_row = min(first_row + kRows, shape.rows) - 1;
  const int tiles = (shape.past + last_row) / kPositions + 1;

  if (threadIdx.x == 0) {
    query_full.Init(1);
    for (int s = 0; s < kStages; ++s) {
      keys_full[s].Init(1);
      values_full[s].Init(1);
      keys_free[s].Init(kGroups);
      values_free[s].Init(kGroups);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  LetNextLaunchBegin();
  WaitForLaunchesAhead();

  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == kGroups * 128) {
      query_full.Expect(kQueryBytes);
      for (int g = 0; g < kGroups; ++g) {
        for (int h = 0; h < 2; ++h) {
          CopyTile(query + (2 * g + h) * kHalfQuery, maps.query, 64 * h, head, first_row + g * kRowsOfGroup,
                   query_full);
        }
      }
      const int kv_head = head / shape.group;
      for (int t = 0; t < tiles; ++t) {
        const int s = t % kStages;
        const int parity = t / kStages % 2;
        for (int part = 0; part < 2; ++part) {
          Barrier& full = part == 0 ? keys_full[s] : values_full[s];
          (part == 0 ? keys_free[s] : values_free[s]).Wait(parity ^ 1);
          full.Expect(kTileBytes);
          for (int h = 0; h < 2; ++h) {
            CopyTile((part == 0 ? keys : values) + s * kTileBytes + h * kHalfTile, part == 0 ? maps.keys : maps.values,
                     64 * h, t * kPositions, kv_head, full);
          }
        }
      }
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    const int lane = threadIdx.x % 32;
    // Of the group's rows a lane has two, eight apart.
    const int row = first_row + warpgroup * kRowsOfGroup + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const int position = shape.past + row;
    const int first_position = shape.past + first_row + warpgroup * kRowsOfGroup;
    const bool is_first_thread = threadIdx.x % 128 == 0;

    float score[64], out[64];
    std::uint32_t weights[32];
#pragma unroll
    for (float& value : out) value = 0;
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {}, factor[2];

    const auto begin_scores = [&](int t) {
      keys_full[t % kStages].Wait(t / kStages % 2);
      Fence(score);
      BeginProducts();
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) {
        Product<T>(score, Descriptor(query + (2 * warpgroup + k / 4) * kHalfQuery + k % 4 * 32, 16),
                   Descriptor(keys + t % kStages * kTileBytes + k / 4 * kHalfTile + k % 4 * 32, 16), k > 0);
      }
      CommitProducts();
    };
    const auto begin_sums = [&](int t) {
      values_full[t % kStages].Wait(t / kStages % 2);
      Fence(out);
      BeginProducts();
#pragma unroll
      for (int k = 0; k < kPositions / 16; ++k) {
        ProductOfRegisters<T>(out, weights + 4 * k,
                              Descriptor(values + t % kStages * kTileBytes + k * 2048, kHalfTile));
      }
      CommitProducts();
    };
    const auto soften = [&](int t) {
      if ((t + 1) * kPositions - 1 > first_position) {
#pragma unroll
        for (int e = 0; e < 64; ++e) {
          const int key = t * kPositions + e / 4 * 8 + lane % 4 * 2 + e % 2;
          if (key > position + e / 2 % 2 * 8) score[e] = -INFINITY;
        }
      }
      Soften(score, largest, total, factor, shape.scale * kLog2E);
    };
    const auto round = [&] {
#pragma unroll
      for (int k = 0; k < 32; ++k) weights[k] = PairOf<T>(score[2 * k], score[2 * k + 1]);
    };

    // The groups take turns at the tensor cores, so that one softens its scores
    // while the other multiplies. The second lets the first begin.
    const auto wait_for_turn = [&] { asm volatile("bar.sync %0, 256;" ::"r"(1 + warpgroup) : "memory"); };
    const auto pass_turn = [&] { asm volatile("bar.arrive %0, 256;" ::"r"(2 - warpgroup) : "memory"); };
    if (warpgroup == 1) pass_turn();

    query_full.Wait(0);
    wait_for_turn();
    begin_scores(0);
    pass_turn();
    WaitForProducts<0>();
    Fence(score);
    if (is_first_thread) keys_free[0].Arrive();
    soften(0);
    round();
    for (int t = 1; t < tiles; ++t) {
      wait_for_turn();
      begin_scores(t);
      begin_sums(t - 1);
      pass_turn();
      WaitForProducts<1>();
      Fence(score);
      if (is_first_thread) keys_free[t % kStages].Arrive();
      soften(t);
      WaitForProducts<0>();
      Fence(out);
      if (is_first_thread) values_free[(t - 1) % kStages].Arrive();
#pragma unroll
      for (int e = 0; e < 64; ++e) out[e] *= factor[e / 2 % 2];
      round();
    }
    begin_sums(tiles - 1);
    if (warpgroup == 0) wait_for_turn();  // the turn that the second passed on last
    WaitForProducts<0>();
    Fence(out);

#pragma unroll
    for (int r = 0; r < 2; ++r) {
      total[r] += __shfl_xor_sync(~0u, total[r], 1);
      total[r] += __shfl_xor_sync(~0u, total[r], 2);
      if (row + 8 * r >= shape.rows) continue;
      auto* to = static_cast<T*>(shape.out) + (static_cast<std::int64_t>(row + 8 * r) * shape.q_heads + head) * kDim +
                 lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < 16; ++n) {
        *reinterpret_cast<std::uint32_t*>(to + 8 * n) =
            PairOf<T>(out[4 * n + 2 * r] / total[r], out[4 * n + 2 * r + 1] / total[r]);
      }
    }
  }
}

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

EncodeTiled FindEncodeTiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result;
  kernels::cuda::CheckLaunch("attention", cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                                           cudaEnableDefault, &result));
  if (result != cudaDriverEntryPointSuccess) {
    throw std::runtime_error("attention: the driver has no cuTensorMapEncodeTiled");
  }
  return reinterpret_cast<EncodeTiled>(function);
}

// [z, y, 128] with `y_stride` and `z_stride` elements between rows; a tile is 64
// elements of each of so many rows and planes.
CUtensorMap MapOf(Precision precision, const void* data, std::int64_t y, std::int64_t z, std::int64_t y_stride,
                  std::int64_t z_stride, int rows, int planes) {
  static const EncodeTiled encode = FindEncodeTiled();
  CUtensorMap map;
  const cuuint64_t extents[] = {kDim, static_cast<cuuint64_t>(y), static_cast<cuuint64_t>(z)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(2 * y_stride), static_cast<cuuint64_t>(2 * z_stride)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(rows), static_cast<cuuint32_t>(planes)};
  const cuuint32_t steps[] = {1, 1, 1};
  const CUresult result =
      encode(&map, precision == Precision::kFp16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             3, const_cast<void*>(data), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::runtime_error("attention: a tensor map was refused, error " + std::to_string(static_cast<int>(result)));
  }
  return map;
}

}  // namespace

void LaunchPrefillAttention(Precision precision, const PrefillAttentionArgs& args, cudaStream_t stream) {
  Maps maps;
  maps.query = MapOf(precision, args.query, args.q_heads, args.rows, kDim, args.query_stride, 1, kRowsOfGroup);
  const std::int64_t positions = args.past + args.rows;  // what lies behind them is read as zero
  maps.keys = MapOf(precision, args.keys, positions, args.kv_heads, kDim, args.capacity * kDim, kPositions, 1);
  maps.values = MapOf(precision, args.values, positions, args.kv_heads, kDim, args.capacity * kDim, kPositions, 1);
  Shape shape;
  shape.out = args.out;
  shape.rows = static_cast<int>(args.rows);
  shape.past = static_cast<int>(args.past);
  shape.q_heads = args.q_heads;
  shape.group = args.q_heads / args.kv_heads;
  shape.scale = args.scale;
  const dim3 grid(static_cast<unsigned>(args.q_heads), static_cast<unsigned>((args.rows + kRows - 1) / kRows));
  const auto launch = [&]<class T>(T) {
    LaunchInChain<AttendPrompt<T>>("attention", grid, dim3(kThreads), kSharedBytes, stream, 0, maps, shape);
  };
  precision == Precision::kFp16 ? launch(__half()) : launch(__nv_bfloat16());
}

bool AttendsPromptsItself(Precision precision, int head_dim) {
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return precision != Precision::kFp32 && head_dim == kDim && major == 9 && minor == 0;
}

}  // namespace suites::internal
