// The device side as plain functions: pointers, sizes, a stream. No torch here,
// no ATen in the .cu files behind it. Nothing here synchronizes or allocates, so
// all of it can be captured in a CUDA graph. Each throws std::runtime_error, one line,
// where CUDA refuses a launch or earlier work on the device has failed, and says which.
#ifndef KERNELS_CUDA_LAUNCH_H_
#define KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/plan.h"

namespace kernels::cuda {

// One multiplication. Device pointers; halves are fp16.
struct Gemm {
  const void* x = nullptr;  // [m, k], 16-byte aligned
  void* y = nullptr;        // [m, n], 16-byte aligned
  int m = 0;
  int k = 0;                             // a multiple of 8, at most kMaxK
  int n = 0;                             // a multiple of 8
  const std::uint32_t* words = nullptr;  // Marlin order (layout.h)
  const void* zeros = nullptr;           // one byte each, [groups, padded n]
  const void* scales = nullptr;          // halves [groups, padded n]; padding is 0
  int padded_n = 0;                      // n rounded up to 16
  int group_size = 0;                    // a multiple of 8
  int groups = 0;
};

// Words, zeros and scales must have been written by work that has completed: kernels
// of sm_90 read them before the launch ahead has ended. x and y need no more than the
// order of the stream.

// How many bytes of workspace GemmBy() needs for a plan.
std::int64_t WorkspaceBytes(const Plan& plan, std::int64_t m, std::int64_t n);

// By one of the functions below, for each plan but Path::kDequantize. Leaves m = 0 alone.
void GemmBy(Family family, const Gemm& gemm, const Plan& plan, void* workspace, cudaStream_t stream);

// kStream of marlin and awq; kTile of all families.
void MarlinGemm(const Gemm& gemm, const Plan& plan, void* workspace, cudaStream_t stream);
// kStream of gptq, in arrival order or in the order of its twin; kSlices, in arrival order.
void GptqGemm(const Gemm& gemm, const Plan& plan, bool ordered, cudaStream_t stream);

// Path::kWgmma, for all families: whether this build has it, and the multiplication.
// Launched so that it may start while the kernel before it ends (programmatic
// dependent launch): it reads the weights at once, x when that kernel is done.
bool HasWgmma();
void WgmmaGemm(const Gemm& gemm, const Plan& plan, cudaStream_t stream);

// W in fp16 as [n, k], each weight (q - z) s rounded once. Reads the weights of
// `gemm` only.
void DequantizeWeights(const Gemm& gemm, void* w, cudaStream_t stream);

// From a checkpoint's words to the kernels' own.
enum class CodeLayout : std::uint8_t { kAwq, kGptq };
struct Repack {
  const std::uint32_t* words = nullptr;
  CodeLayout layout = CodeLayout::kAwq;
  const std::int64_t* row_order = nullptr;  // [k] or null: row i comes from row_order[i]
  int k = 0;
  int n = 0;
};
// To Marlin order, [padded n / 16, padded k / 64, 32, 4]; padding holds code 0.
void RepackMarlin(const Repack& repack, std::uint32_t* out, cudaStream_t stream);
// Zero points to bytes and scales, both to [groups, padded_n]. `add` is added to
// each word first (0x11111111 undoes GPTQ v1's z - 1).
void RepackGroups(const std::uint32_t* zeros, CodeLayout layout, std::uint32_t add, const void* scales, int groups,
                  int n, int padded_n, std::uint8_t* out_zeros, void* out_scales, cudaStream_t stream);

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_LAUNCH_H_
