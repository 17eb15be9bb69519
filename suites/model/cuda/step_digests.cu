// The digests of a decode step, all in one launch: its outputs are small and
// many, and a launch for each would take as long as the step.
#include "gtest_determinism/internal/xxh3_team.cuh"
#include "kernels/cuda/launch_kernel.cuh"
#include "suites/model/cuda/launch.h"

namespace suites::internal {
namespace {

namespace xxh3 = gtest_determinism::internal::xxh3;

constexpr int kThreads = 128;
constexpr int kTeams = kThreads / 8;
static_assert(kMaxDigestPiece == xxh3::kChunk * xxh3::kTopDigests);

// A block for each piece; up to 1 MiB a TreeDigest has one level.
__global__ void __launch_bounds__(kThreads) StepDigestsKernel(const DigestPiece* pieces, const DecodeState* state) {
  __shared__ std::uint64_t top[2 * xxh3::kTopDigests + 1];
  __shared__ __align__(16) unsigned char copy[xxh3::kChunk + 16];
  const DigestPiece piece = pieces[blockIdx.x];
  const auto* data = static_cast<const unsigned char*>(piece.data);
  const xxh3::Member member = xxh3::MemberOf();
  const std::size_t chunks = (piece.bytes + xxh3::kChunk - 1) / xxh3::kChunk;
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  const std::size_t whole = aligned ? piece.bytes / xxh3::kChunk : 0;
  for (std::size_t chunk = threadIdx.x / 8; chunk < whole; chunk += kTeams) {
    xxh3::Store(top + 2 * chunk, xxh3::HashChunk<16>(data + chunk * xxh3::kChunk, member), member);
  }
  // What is no whole chunk, or not aligned, is read as whole words: from a copy,
  // since these reach up to 7 bytes beyond it.
  for (std::size_t chunk = whole; chunk < chunks; ++chunk) {
    const std::size_t left = piece.bytes - chunk * xxh3::kChunk;
    const int bytes = static_cast<int>(left < xxh3::kChunk ? left : xxh3::kChunk);
    const unsigned char* from = data + chunk * xxh3::kChunk;
    if (aligned) {
      xxh3::CopyByBlock<16, kThreads>(copy, from, bytes);
    } else {
      xxh3::CopyByBlock<1, kThreads>(copy, from, bytes);
    }
    __syncthreads();
    if (threadIdx.x < 8) {
      xxh3::Store(top + 2 * chunk, xxh3::HashAny(copy, static_cast<std::size_t>(bytes), member.thread, member.mask),
                  member);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) top[2 * chunks] = piece.bytes;
  __syncthreads();
  if (threadIdx.x >= 8) return;
  auto* row =
      static_cast<std::uint64_t*>(state->digests) + 2 * (state->step - 2) * static_cast<std::int64_t>(gridDim.x);
  xxh3::Store(row + 2 * blockIdx.x,
              xxh3::HashAny(reinterpret_cast<const unsigned char*>(top), chunks * xxh3::kDigestBytes + 8, member.thread,
                            member.mask),
              member);
}

}  // namespace

void LoadStepDigests() {
  cudaFuncAttributes attributes;
  kernels::cuda::CheckLaunch("step digests", cudaFuncGetAttributes(&attributes, StepDigestsKernel));
}

void LaunchStepDigests(const DigestPiece* pieces, std::int64_t count, const DecodeState* state, cudaStream_t stream) {
  if (count == 0) return;
  kernels::cuda::LaunchKernel<StepDigestsKernel>("step digests", static_cast<unsigned>(count), kThreads, 0, stream,
                                                 pieces, state);
}

}  // namespace suites::internal
