#include "suites/benchmarks/cuda_timing.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdint>

#include "gtest_determinism/internal/cuda_kernels.h"
#include "suites/device/device_layers.h"

namespace quant_suites {
namespace {

constexpr int kRounds = 9;

Ceilings Measure() {
  constexpr std::int64_t kReadBytes = std::int64_t{1} << 31, kSmall = 4096, kLarge = 8192;
  const at::Tensor read = at::empty({kReadBytes}, at::TensorOptions().dtype(at::kByte).device(at::kCUDA)).fill_(77);
  const at::Tensor sink = at::empty({16}, read.options());
  const at::Tensor a = suites::RandomHalves(kLarge, kLarge), b = suites::RandomHalves(kLarge, kLarge).mul(0.01).t();
  const at::Tensor small_a = suites::RandomHalves(kSmall, kSmall);
  const at::Tensor small_b = suites::RandomHalves(kSmall, kSmall).mul(0.01).t();
  const GraphTimer reads({[&] {
                           gtest_determinism::internal::LaunchPlainRead(
                               read.const_data_ptr(), kReadBytes,
                               reinterpret_cast<std::uint32_t*>(sink.mutable_data_ptr<std::uint8_t>()),
                               c10::cuda::getCurrentCUDAStream());
                         }},
                         2);
  const GraphTimer large({[&] { at::mm(a, b); }}, 1);
  const GraphTimer small({[&] { at::mm(small_a, small_b); }}, 8);
  const GraphTimer empty({[] { gtest_determinism::internal::LaunchHoldStream(0, c10::cuda::getCurrentCUDAStream()); }},
                         256);
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  std::vector<Contender> contenders;
  for (const GraphTimer* timer : {&reads, &large, &small, &empty}) {
    contenders.push_back({[timer, stream] { timer->Start(stream); }, [timer] { return timer->Microseconds(); }});
  }
  const auto times = MeasureOnStream(contenders, kRounds, stream);
  const auto rate = [](std::int64_t size, double us) {
    return 2 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size) / us * 1e6;
  };
  return {.bytes_per_second = static_cast<double>(kReadBytes) / Median(times[0]) * 1e6,
          .flops_per_second = std::max(rate(kLarge, Median(times[1])), rate(kSmall, Median(times[2]))),
          .empty_kernel_us = Median(times[3])};
}

}  // namespace

GraphTimer::GraphTimer(const std::vector<std::function<void()>>& calls, int turns)
    : graph_([&] {
        for (int turn = 0; turn < turns; ++turn) {
          for (const auto& call : calls) call();
        }
      }),
      calls_(static_cast<double>(calls.size()) * turns) {
  C10_CUDA_CHECK(cudaEventCreate(&begin_));
  C10_CUDA_CHECK(cudaEventCreate(&end_));
}

GraphTimer::~GraphTimer() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
}

void GraphTimer::Start(cudaStream_t stream) const {
  C10_CUDA_CHECK(cudaEventRecord(begin_, stream));
  graph_.Replay(stream);
  C10_CUDA_CHECK(cudaEventRecord(end_, stream));
}

double GraphTimer::Microseconds() const {
  float ms = 0;
  C10_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
  return 1e3 * static_cast<double>(ms) / calls_;
}

std::vector<std::vector<double>> MeasureOnStream(const std::vector<Contender>& contenders, int rounds,
                                                 cudaStream_t stream) {
  // The launch of a graph takes tens of microseconds, and each replay more than that.
  constexpr std::uint64_t kHoldNanoseconds = 1000000;
  const auto hold = [&] { gtest_determinism::internal::LaunchHoldStream(kHoldNanoseconds, stream); };
  hold();
  auto times = MeasureInterleaved(contenders, rounds, [&] {
    C10_CUDA_CHECK(cudaStreamSynchronize(stream));
    hold();
  });
  C10_CUDA_CHECK(cudaStreamSynchronize(stream));
  return times;
}

const Ceilings& DeviceCeilings() {
  static const Ceilings ceilings = [] {
    const Ceilings measured = Measure();
    c10::cuda::CUDACachingAllocator::emptyCache();
    return measured;
  }();
  return ceilings;
}

std::string DeviceName() {
  int device = 0;
  cudaDeviceProp properties{};
  if (cudaGetDevice(&device) != cudaSuccess || cudaGetDeviceProperties(&properties, device) != cudaSuccess) return "";
  return properties.name;
}

}  // namespace quant_suites
