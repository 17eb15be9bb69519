// INT4 matmuls on a CUDA device, by layer of Qwen3-8B, number of rows and kernel:
//   int4_matmul_cuda/gate_up_4096x24576/m:64/marlin
//
// Every registered kernel is there, with cuBLAS in fp16 beside it. The time is that
// of one call in the replay of a graph whose calls take turns at 400 MB of weights,
// by CUDA events. Beside it: floor_us, the bytes that must move over the bandwidth
// of a copy on this device, and how many bit patterns twenty runs gave. Registered
// only where there is a device.
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <benchmark/benchmark.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"
#include "kernels/providers/op_library.h"
#include "kernels/torch_cuda.h"
#include "suites/device/device_layers.h"
#include "suites/device/device_patterns.h"

namespace quant_suites {
namespace {

struct LayerSize {
  const char* name;
  std::int64_t k, n;
};
constexpr LayerSize kLayers[] = {{"gate_up_4096x24576", 4096, 24576},
                                 {"qkv_4096x6144", 4096, 6144},
                                 {"o_4096x4096", 4096, 4096},
                                 {"down_12288x4096", 12288, 4096}};
constexpr std::int64_t kRows[] = {1, 16, 64, 512, 3790};
constexpr double kRotated = 400e6;  // bytes of weights, eight times the cache of an H100
constexpr int kPatternRuns = 20;

// Bytes per second of a copy, read and written, of 1 GB.
double CopyBandwidth() {
  static const double bandwidth = [] {
    constexpr std::int64_t kBytes = std::int64_t{1} << 30;
    const auto options = at::TensorOptions().dtype(at::kByte).device(at::kCUDA);
    at::Tensor from = at::empty({kBytes}, options), to = at::empty({kBytes}, options);
    return 2 * static_cast<double>(kBytes) / (suites::MedianMicroseconds({[&] { to.copy_(from); }}) * 1e-6);
  }();
  return bandwidth;
}

// The layers of one kernel and size, kept until another is asked for: repetitions
// of one benchmark share them.
class Layers {
 public:
  const std::vector<std::unique_ptr<kernels::Int4Matmul>>& Get(const kernels::KernelIdentity& identity,
                                                               const LayerSize& size) {
    const std::string name = identity.family + identity.provider + size.name;
    if (name != name_) {
      layers_.clear();
      halves_.clear();
      c10::cuda::CUDACachingAllocator::emptyCache();
      const auto copies = static_cast<std::int64_t>(kRotated / suites::WeightBytes(size.k, size.n)) + 1;
      for (std::int64_t i = 0; i < copies; ++i) {
        layers_.push_back(suites::RandomKernel(identity.family, identity.provider, size.k, size.n));
      }
      name_ = name;
    }
    return layers_;
  }
  const std::vector<at::Tensor>& Halves(const LayerSize& size) {
    const std::string name = std::string("half") + size.name;
    if (name != name_) {
      layers_.clear();
      halves_.clear();
      c10::cuda::CUDACachingAllocator::emptyCache();
      const auto copies =
          static_cast<std::int64_t>(kRotated / (2 * static_cast<double>(size.k) * static_cast<double>(size.n))) + 1;
      for (std::int64_t i = 0; i < copies; ++i) halves_.push_back(suites::RandomHalves(size.n, size.k).mul(0.01).t());
      name_ = name;
    }
    return halves_;
  }

 private:
  std::string name_;
  std::vector<std::unique_ptr<kernels::Int4Matmul>> layers_;
  std::vector<at::Tensor> halves_;  // [K, N]
};
Layers& TheLayers() {
  static Layers& layers = *new Layers;  // never destroyed: CUDA may be gone by then
  return layers;
}

void Measure(benchmark::State& state, const LayerSize& size, std::int64_t m, double weight_bytes,
             const std::vector<std::function<at::Tensor()>>& calls) {
  std::vector<std::function<void()>> timed;
  for (const auto& call : calls) timed.emplace_back([&call] { call(); });
  const double us = suites::MedianMicroseconds(timed);
  for (auto _ : state) state.SetIterationTime(us * 1e-6);
  const double bytes = weight_bytes + 2 * static_cast<double>(m) * static_cast<double>(size.k + size.n);
  state.counters["floor_us"] = bytes / CopyBandwidth() * 1e6;
  state.counters["TFLOP/s"] =
      2 * static_cast<double>(m) * static_cast<double>(size.k) * static_cast<double>(size.n) / us * 1e-6;
  state.counters["patterns"] = suites::CountPatterns(calls.front(), kPatternRuns).distinct;
}

void RunKernel(benchmark::State& state, const kernels::KernelIdentity& identity, const LayerSize& size, std::int64_t m,
               bool ordered) {
  const at::Tensor x = suites::RandomInput(identity.family, m, size.k);
  std::vector<std::function<at::Tensor()>> calls;
  for (const auto& layer : TheLayers().Get(identity, size)) {
    calls.emplace_back([&x, &layer, ordered] { return ordered ? layer->ForwardOrdered(x) : layer->Forward(x); });
  }
  Measure(state, size, m, suites::WeightBytes(size.k, size.n), calls);
}

void RunCublas(benchmark::State& state, const LayerSize& size, std::int64_t m) {
  const at::Tensor x = suites::RandomHalves(m, size.k);
  std::vector<std::function<at::Tensor()>> calls;
  for (const at::Tensor& w : TheLayers().Halves(size)) calls.emplace_back([&x, &w] { return at::mm(x, w); });
  Measure(state, size, m, 2 * static_cast<double>(size.k) * static_cast<double>(size.n), calls);
}

template <typename Run>
void Register(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [run](benchmark::State& state) {
                                 try {
                                   if (kernels::TorchCuda().devices == 0) {
                                     throw std::runtime_error(kernels::TorchCuda().reason);
                                   }
                                   run(state);
                                 } catch (const std::exception& error) {
                                   state.SkipWithError(error.what());
                                 }
                               })
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMicrosecond);
}

const bool registered = [] {
  // Without libtorch's CUDA half, which takes seconds to open.
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return false;
  const bool foreign = !kernels::FindOpLibraries().empty();
  for (const LayerSize& size : kLayers) {
    for (const kernels::KernelIdentity& identity : kernels::RegisteredKernels()) {
      if (identity.device != "cuda" || (identity.provider == "vllm" && !foreign)) continue;
      const std::string name =
          identity.family +
          (identity.provider == "builtin" || identity.provider == "aten" ? "" : "_" + identity.provider);
      for (const std::int64_t m : kRows) {
        const std::string prefix = std::string("int4_matmul_cuda/") + size.name + "/m:" + std::to_string(m) + "/";
        Register(prefix + name, [=](benchmark::State& state) { RunKernel(state, identity, size, m, false); });
        if (!identity.ordered_op.empty()) {
          Register(prefix + name + "_ordered",
                   [=](benchmark::State& state) { RunKernel(state, identity, size, m, true); });
        }
      }
    }
    for (const std::int64_t m : kRows) {
      Register(std::string("int4_matmul_cuda/") + size.name + "/m:" + std::to_string(m) + "/cublas_fp16",
               [=](benchmark::State& state) { RunCublas(state, size, m); });
    }
  }
  return true;
}();

}  // namespace
}  // namespace quant_suites
