// Launches of the multiplication by wgmma; compiled for sm_90a alone. A build without
// that architecture has wgmma_absent.cc in its place.
#include <atomic>
#include <cstring>

#include "kernels/cuda/launch_internal.cuh"
#include "kernels/cuda/wgmma_gemm.cuh"

namespace kernels::cuda {
namespace {

constexpr int kSharedOfBlock = kSharedLimit90;
// With few rows, what the next block of a multiprocessor asks for is there sooner.
constexpr int kSharedOfHalf = 113 * 1024;
constexpr int kMaxStages = 16;
constexpr int kRaster = 8;

[[noreturn]] void Fail(const std::string& what) { throw std::runtime_error("wgmma: " + what); }

// libcuda's, which no program here links.
using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
EncodeTiled Encoder() {
  static const EncodeTiled encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
    CheckLaunch("MarlinGemmWgmma", error);
    if (result != cudaDriverEntryPointSuccess) Fail("the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<EncodeTiled>(function);
  }();
  return encoder;
}

// sizes[0] is contiguous; pitches in bytes, of dimensions 1 and up.
template <std::size_t kRank>
void MakeMap(CUtensorMap& map, CUtensorMapDataType type, const void* data, const cuuint64_t (&sizes)[kRank],
             const cuuint64_t (&pitches)[kRank - 1], const cuuint32_t (&box)[kRank],
             CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_NONE) {
  cuuint32_t steps[kRank];
  for (cuuint32_t& step : steps) step = 1;
  const CUresult result =
      Encoder()(&map, type, kRank, const_cast<void*>(data), sizes, pitches, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) Fail("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)));
}

template <class Shape>
WgmmaArgs WgmmaArgsOf(const Gemm& gemm, const Plan& plan) {
  WgmmaArgs args;
  std::memset(&args, 0, sizeof args);
  const cuuint64_t k = gemm.k, m = gemm.m, n = gemm.padded_n, groups = gemm.groups;
  const cuuint64_t k_tiles = RoundUp(gemm.k, kTileK) / kTileK;
  constexpr cuuint32_t kColumns = Shape::kColumns, kParts = Shape::kParts;
  // What lies beyond the end of K, N or M is 0 in shared memory.
  MakeMap<2>(args.x, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, gemm.x, {k, m}, {k * 2},
             {kTileK, static_cast<cuuint32_t>(Shape::kRows)}, CU_TENSOR_MAP_SWIZZLE_128B);
  MakeMap<3>(args.words, CU_TENSOR_MAP_DATA_TYPE_INT32, gemm.words, {128, k_tiles, n / kMarlinColumns},
             {512, k_tiles * 512}, {128, Shape::kStageTiles, kColumns / kMarlinColumns});
  MakeMap<2>(args.scales, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, gemm.scales, {n, groups}, {n * 2}, {kColumns, kParts});
  MakeMap<2>(args.zeros, CU_TENSOR_MAP_DATA_TYPE_UINT8, gemm.zeros, {n, groups}, {n}, {kColumns, kParts});
  args.y = static_cast<__half*>(gemm.y);
  args.m = gemm.m, args.n = gemm.n;
  args.units = static_cast<int>(RoundUp(gemm.k, kUnitK) / kUnitK);
  args.units_per_part = static_cast<int>(plan.tiles_per_split * kTileK / kUnitK);
  args.splits = plan.folded ? 1 : static_cast<int>(plan.splits);
  args.folds = plan.folded ? static_cast<int>(plan.splits) : 1;
  args.group_inverse = GroupInverse(static_cast<std::uint32_t>(gemm.group_size));
  args.column_tiles = static_cast<int>(Blocks(gemm.n, Shape::kColumns));
  args.row_tiles = static_cast<int>(Blocks(gemm.m, Shape::kRows));
  args.raster = kRaster;
  static_assert(Shape::SharedBytes(2, 1) <= kSharedOfBlock && Shape::SharedBytes(2, 2) <= kSharedOfBlock);
  const bool half = Shape::kRows <= (args.splits > 1 ? 64 : 16);
  const int room = half ? kSharedOfHalf : kSharedOfBlock;
  args.stages = kMaxStages;
  while (args.stages > 2 && Shape::SharedBytes(args.stages, args.splits) > room) --args.stages;
  return args;
}

// A kernel may use more than 48 KiB of shared memory once it has asked, on each device.
template <class Shape>
void AllowShared() {
  static std::atomic<std::uint64_t> asked{0};
  int device = 0;
  CheckLaunch("MarlinGemmWgmma", cudaGetDevice(&device));
  const std::uint64_t bit = std::uint64_t{1} << (device % 64);
  if ((asked.load(std::memory_order_relaxed) & bit) != 0) return;
  CheckLaunch("MarlinGemmWgmma", cudaFuncSetAttribute(MarlinGemmWgmma<Shape>,
                                                      cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedOfBlock));
  asked.fetch_or(bit, std::memory_order_relaxed);
}

template <class Shape>
void Launch(const Gemm& gemm, const Plan& plan, cudaStream_t stream) {
  const WgmmaArgs args = WgmmaArgsOf<Shape>(gemm, plan);
  AllowShared<Shape>();
  const int tiles = args.row_tiles * args.column_tiles;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(args.splits > 1 ? tiles * args.splits : std::min(tiles, plan.blocks));
  config.blockDim = dim3(Shape::kThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(Shape::SharedBytes(args.stages, args.splits));
  config.stream = stream;
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(args.splits);
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  config.attrs = attributes;
  config.numAttrs = args.splits > 1 ? 2 : 1;
  CheckLaunch("MarlinGemmWgmma", cudaLaunchKernelEx(&config, MarlinGemmWgmma<Shape>, args));
}

template <int kGroups, int kBlocks, int kRows, int kStageTiles, bool kFold = false>
void ByGroupRows(const Gemm& gemm, const Plan& plan, cudaStream_t stream) {
  if (gemm.group_size % 128 == 0) {
    Launch<WgmmaShape<kGroups, kBlocks, kRows, kStageTiles, 128, kFold>>(gemm, plan, stream);
  } else {
    Launch<WgmmaShape<kGroups, kBlocks, kRows, kStageTiles, 32, kFold>>(gemm, plan, stream);
  }
}

}  // namespace

bool HasWgmma() { return true; }

void WgmmaGemm(const Gemm& gemm, const Plan& plan, cudaStream_t stream) {
  if (gemm.m == 0) return;
  if (plan.splits > kMaxWgmmaSplits) Fail("no kernel for K in " + std::to_string(plan.splits) + " splits");
  // One case for each of kWgmmaTiles in plan.h.
  switch (plan.columns * 1000 + 8 * plan.row_blocks) {
    case 192016:
      return ByGroupRows<3, 1, 16, 2>(gemm, plan, stream);
    case 192032:
      return ByGroupRows<3, 1, 32, 2>(gemm, plan, stream);
    case 192064:
      return ByGroupRows<3, 1, 64, 2>(gemm, plan, stream);
    case 192128:
      return ByGroupRows<3, 1, 128, 2>(gemm, plan, stream);
    case 192192:
      return ByGroupRows<3, 1, 192, 1>(gemm, plan, stream);
    case 128064:
      return ByGroupRows<2, 1, 64, 2>(gemm, plan, stream);
    case 128128:
      return plan.folded ? ByGroupRows<2, 1, 128, 2, true>(gemm, plan, stream)
                         : ByGroupRows<2, 1, 128, 2>(gemm, plan, stream);
    case 128192:
      return ByGroupRows<2, 1, 192, 1>(gemm, plan, stream);
    case 128256:
      return ByGroupRows<2, 1, 256, 1>(gemm, plan, stream);
    default:
      Fail("no kernel for tiles of " + std::to_string(8 * plan.row_blocks) + " rows and " +
           std::to_string(plan.columns) + " columns");
  }
}

}  // namespace kernels::cuda
