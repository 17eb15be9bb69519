// Launches of the kernels for few rows of x.
#ifndef KERNELS_CUDA_STREAM_LAUNCH_CUH_
#define KERNELS_CUDA_STREAM_LAUNCH_CUH_

#include <algorithm>
#include <array>
#include <atomic>
#include <stdexcept>
#include <string>

#include "kernels/cuda/launch_internal.cuh"
#include "kernels/cuda/stream.cuh"

namespace kernels::cuda {

struct StreamDevice {
  int shared_limit = 0;   // bytes of shared memory that a block may ask for
  int shared_total = 0;   // of a multiprocessor
  bool overlaps = false;  // programmatic dependent launch
  std::size_t index = 0;  // of the device, modulo kDevices
  static constexpr std::size_t kDevices = 64;
};
// Of the current device, for a launch of `kernel`; asked once for each.
inline StreamDevice CurrentStreamDevice(const char* kernel) {
  static std::array<std::atomic<std::int64_t>, StreamDevice::kDevices> known = {};
  int device = 0;
  CheckLaunch(kernel, cudaGetDevice(&device));
  StreamDevice result;
  result.index = static_cast<std::size_t>(device) % StreamDevice::kDevices;
  std::int64_t value = known[result.index].load(std::memory_order_relaxed);
  if (value == 0) {
    int shared = 0, total = 0, major = 0;
    CheckLaunch(kernel, cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    CheckLaunch(kernel, cudaDeviceGetAttribute(&total, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device));
    CheckLaunch(kernel, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    value = (static_cast<std::int64_t>(total) << 32) + 2 * static_cast<std::int64_t>(shared) + (major >= 9 ? 1 : 0);
    known[result.index].store(value, std::memory_order_relaxed);
  }
  result.shared_limit = static_cast<int>((value & 0xffffffff) / 2);
  result.shared_total = static_cast<int>(value >> 32);
  result.overlaps = value % 2 != 0;
  return result;
}

template <int kRowBlocks, Sums kSums, auto kKernel>
void LaunchStreamKernel(const Gemm& gemm, const Plan& plan, const char* name, cudaStream_t stream) {
  const StreamDevice device = CurrentStreamDevice(name);
  const StreamShape shape =
      StreamShapeFor(kRowBlocks, kSums, gemm.m, gemm.k, gemm.n, gemm.group_size, plan.blocks, device.shared_limit);
  if (shape.shared_bytes > device.shared_limit) {
    throw std::runtime_error(std::string(name) + ": a block needs " + std::to_string(shape.shared_bytes) +
                             " bytes of shared memory, the device has " + std::to_string(device.shared_limit));
  }
  // Once for each device and kernel: the call is slow.
  static std::array<std::atomic<bool>, StreamDevice::kDevices> asked = {};
  if (!asked[device.index].load(std::memory_order_relaxed)) {
    CheckLaunch(name, cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, device.shared_limit));
    asked[device.index].store(true, std::memory_order_relaxed);
  }
  StreamArgs args;
  args.gemm = gemm;
  args.group_inverse = GroupInverse(static_cast<std::uint32_t>(gemm.group_size));
  args.k_tiles = static_cast<int>(RoundUp(gemm.k, kTileK) / kTileK);
  args.units = shape.units;
  args.strips = shape.strips;
  args.piece_units = shape.piece_units;
  args.x_buffers = shape.x_buffers;
  cudaLaunchAttribute overlap;
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(plan.blocks));
  config.blockDim = dim3(32 * StreamWarps(kRowBlocks));
  // No room for one block more than are meant: of two launches that overlap, the later
  // one would have several blocks on some multiprocessors and none on others.
  const int least = device.shared_total / (StreamResidentBlocks(kRowBlocks) + 1);
  config.dynamicSmemBytes =
      static_cast<std::size_t>(std::max(shape.shared_bytes, std::min(least, device.shared_limit)));
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = device.overlaps ? 1 : 0;
  CheckLaunch(name, cudaLaunchKernelEx(&config, kKernel, args));
}

// Calls `f` with kRowBlocks and kGroups of StreamBody as its template arguments.
template <class Function>
void WithStreamShape(const Gemm& gemm, const Plan& plan, Function f) {
  const auto with_groups = [&]<int kRowBlocks>() {
    switch (StreamGroups(gemm.group_size)) {
      case 1:
        return f.template operator()<kRowBlocks, 1>();
      case 2:
        return f.template operator()<kRowBlocks, 2>();
      case 4:
        return f.template operator()<kRowBlocks, 4>();
      default:
        return f.template operator()<kRowBlocks, 0>();
    }
  };
  switch (plan.row_blocks) {
    case 0:
      return with_groups.template operator()<0>();
    case 1:
      return with_groups.template operator()<1>();
    default:
      return with_groups.template operator()<2>();
  }
}

// marlin and awq, plan.path kStream.
void MarlinStream(const Gemm& gemm, const Plan& plan, cudaStream_t stream);

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_STREAM_LAUNCH_CUH_
