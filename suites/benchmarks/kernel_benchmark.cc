// INT4 matmuls by layer of Qwen3-8B, number of rows and kernel:
//   int4_matmul/gate_up_4096x24576/m:256/marlin
//
// Every kernel registered for the CPU is there, with ATen's (tinygemm, bfloat16) and
// OpenVINO's beside it, and ATen's matmul of unquantized weights in float32 and
// bfloat16. Layers are made at first use and kept, so that repetitions of different
// kernels can be interleaved. Beside the time: how many bit patterns five runs on
// the same input gave, and the floor: the time of reading as many bytes as the codes
// are again and again, or the operations over the rate of ATen's large bfloat16 or
// float32 matmul, whichever takes longer. Both are measured in the same process.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "gtest_determinism/digest.h"
#include "kernels/int4_matmul.h"
#include "kernels/int4_pack.h"
#include "suites/benchmarks/interleaved.h"
#include "suites/benchmarks/openvino_matmul.h"

namespace quant_suites {
namespace {

struct LayerSize {
  const char* name;
  std::int64_t k, n;
};
// q, k, v and gate, up are joined along N, as the engine runs them.
constexpr LayerSize kLayers[] = {
    {"gate_up_4096x24576", 4096, 24576}, {"qkv_4096x6144", 4096, 6144},     {"o_4096x4096", 4096, 4096},
    {"down_12288x4096", 12288, 4096},    {"tiny_down_1024x256", 1024, 256},  // of the embedded model
};
constexpr std::int64_t kRows[] = {1, 16, 64, 256};
constexpr std::int64_t kGroup = 128;

// Any bits are a layer; those of a fixed linear congruential sequence here.
at::Tensor RandomWords(at::IntArrayRef shape) {
  at::Tensor words = at::empty(shape, at::kInt);
  std::uint32_t state = 1;
  auto* const to = words.mutable_data_ptr<std::int32_t>();
  for (std::int64_t i = 0; i < words.numel(); ++i) {
    state = state * 1664525U + 1013904223U;
    to[i] = static_cast<std::int32_t>(state ^ (state >> 13));
  }
  return words;
}

// As a norm leaves them: about the normal distribution of variance 1 (the sum of
// twelve uniform numbers). What x holds matters to kernels that look at it.
at::Tensor Activations(std::int64_t m, std::int64_t k, at::ScalarType dtype) {
  at::Tensor x = at::empty({m, k}, at::kFloat);
  std::uint64_t state = 1;
  for (float& value : std::span(x.mutable_data_ptr<float>(), static_cast<std::size_t>(m * k))) {
    value = -6;
    for (int i = 0; i < 12; ++i) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      value += static_cast<float>(state >> 40) * 0x1p-24F;
    }
  }
  return x.to(dtype);
}

kernels::QuantizedLinear RandomLayer(kernels::Format format, const LayerSize& size) {
  kernels::QuantizedLinear layer;
  layer.name = size.name;
  layer.format = format;
  layer.k = size.k;
  layer.n = size.n;
  layer.group_size = kGroup;
  constexpr double kScale = 0.013;
  const std::int64_t k = size.k, n = size.n, groups = k / kGroup;
  switch (format) {
    case kernels::Format::kAwq:
      layer.qweight = RandomWords({k, n / 8});
      layer.qzeros = RandomWords({groups, n / 8});
      layer.scales = at::full({groups, n}, kScale, at::kHalf);
      break;
    case kernels::Format::kGptq:
      layer.qweight = RandomWords({k / 8, n});
      layer.qzeros = RandomWords({groups, n / 8});
      layer.scales = at::full({groups, n}, kScale, at::kHalf);
      break;
    default: {
      layer.format = kernels::Format::kTorchaoTilePacked;
      const std::int64_t padded_k = kernels::TorchaoPaddedK(k), padded_n = kernels::TorchaoPaddedN(n);
      layer.qweight = RandomWords({padded_n / 8, padded_k / 128, 32, 4});
      layer.scales = at::full({padded_k / kGroup, padded_n, 2}, kScale, at::kBFloat16);
    }
  }
  return layer;
}

const kernels::Int4Matmul& KernelFor(const kernels::KernelIdentity& identity, const LayerSize& size) {
  static std::map<std::tuple<std::string, std::string, std::string>, std::unique_ptr<kernels::Int4Matmul>> made;
  auto& kernel = made[{identity.family, identity.provider, size.name}];
  if (kernel == nullptr) {
    const kernels::KernelRequest request = {identity.family, identity.provider, identity.device};
    // The first format that the kernel reads.
    for (const kernels::Format format :
         {kernels::Format::kAwq, kernels::Format::kGptq, kernels::Format::kTorchaoTilePacked}) {
      try {
        kernel = kernels::MakeInt4Matmul(request, RandomLayer(format, size));
        break;
      } catch (const std::invalid_argument&) {
        if (format == kernels::Format::kTorchaoTilePacked) throw;
      }
    }
  }
  return *kernel;
}

// Bit patterns of so many runs on the same input; counted at a benchmark's first
// repetition and kept.
constexpr int kPatternRuns = 5;
double PatternsOf(const std::string& key, const std::function<at::Tensor()>& run) {
  static std::map<std::string, double> counted;
  const auto [it, added] = counted.try_emplace(key, 0);
  if (added) {
    std::set<std::string> seen;
    for (int i = 0; i < kPatternRuns; ++i) {
      const at::Tensor y = run().contiguous();
      seen.insert(gtest_determinism::ToHex(gtest_determinism::TreeDigest(y.const_data_ptr(), y.nbytes())));
    }
    it->second = static_cast<double>(seen.size());
  }
  return it->second;
}

// The quickest of some runs: other processes only add.
double LeastSeconds(const std::function<void()>& run) {
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return least;
}

// Of as many bytes as a layer's codes, from wherever those of a layer that is used
// again and again come from.
double ReadBandwidth(std::int64_t bytes) {
  const at::Tensor words = at::ones({bytes / 8}, at::kLong);
  const auto* const from = words.const_data_ptr<std::int64_t>();
  const double seconds = LeastSeconds([&] {
    at::parallel_for(0, bytes / 8 / 512, 16, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t any[8] = {};
      for (std::int64_t i = begin * 512; i < end * 512; i += 8) {
        for (std::int64_t j = 0; j < 8; ++j) any[j] |= from[i + j];
      }
      benchmark::DoNotOptimize(any);
    });
  });
  return static_cast<double>(words.nbytes()) / seconds;
}

double MatmulRate(at::ScalarType dtype) {
  constexpr std::int64_t kSize = 2048;
  const at::Tensor a = Activations(kSize, kSize, dtype), b = Activations(kSize, kSize, dtype);
  return 2.0 * kSize * kSize * kSize / LeastSeconds([&] { benchmark::DoNotOptimize(at::mm(a, b)); });
}

const Ceilings& CeilingsFor(const LayerSize& size) {
  static const double flops_per_second = std::max(MatmulRate(at::kFloat), MatmulRate(at::kBFloat16));
  static std::map<std::string, Ceilings> measured;
  const auto [at, added] = measured.try_emplace(size.name);
  if (added) at->second = {ReadBandwidth(size.k * size.n / 2), flops_per_second, 0};
  return at->second;
}

void SetCounters(benchmark::State& state, const LayerSize& size, std::int64_t m) {
  const double multiplications = static_cast<double>(m) * static_cast<double>(size.k) * static_cast<double>(size.n);
  // Codes alone; scales and zero points add 1/25.
  const double bytes = static_cast<double>(size.k) * static_cast<double>(size.n) / 2;
  state.counters["FLOP/s"] = benchmark::Counter(2 * multiplications, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["weight_B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["floor_us"] = FloorMicroseconds(bytes, 2 * multiplications, CeilingsFor(size));
}

void RunKernel(benchmark::State& state, const kernels::KernelIdentity& identity, const LayerSize& size, std::int64_t m,
               bool ordered) {
  const kernels::Int4Matmul& kernel = KernelFor(identity, size);
  const at::ScalarType dtype = identity.family == "tinygemm" ? at::kBFloat16 : at::kHalf;
  const at::Tensor x = Activations(m, size.k, dtype);
  benchmark::DoNotOptimize(ordered ? kernel.ForwardOrdered(x) : kernel.Forward(x));
  for (auto _ : state) {
    benchmark::DoNotOptimize(ordered ? kernel.ForwardOrdered(x) : kernel.Forward(x));
  }
  SetCounters(state, size, m);
  state.counters["patterns"] =
      PatternsOf(identity.family + (ordered ? "_ordered/" : "/") + size.name + "/" + std::to_string(m),
                 [&] { return ordered ? kernel.ForwardOrdered(x) : kernel.Forward(x); });
}

// ATen's matmul of unquantized weights, [n, k] as a linear layer has them.
void RunDense(benchmark::State& state, at::ScalarType dtype, const LayerSize& size, std::int64_t m) {
  static std::map<std::pair<std::string, at::ScalarType>, at::Tensor> made;
  at::Tensor& weight = made[{size.name, dtype}];
  if (!weight.defined()) weight = RandomWords({size.n, size.k}).to(at::kFloat).mul(0x1p-30).to(dtype);
  const at::Tensor x = Activations(m, size.k, dtype);
  benchmark::DoNotOptimize(at::mm(x, weight.t()));
  for (auto _ : state) benchmark::DoNotOptimize(at::mm(x, weight.t()));
  SetCounters(state, size, m);
}

[[maybe_unused]] void RunOpenVino(benchmark::State& state, const LayerSize& size, std::int64_t m) {
  static std::map<std::string, std::unique_ptr<OpenVinoMatmul>> made;
  auto& matmul = made[size.name];
  if (matmul == nullptr) matmul = MakeOpenVinoMatmul(size.k, size.n, at::get_num_threads());
  matmul->Run(m);
  for (auto _ : state) matmul->Run(m);
  SetCounters(state, size, m);
}

template <typename Run>
void Register(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [run](benchmark::State& state) {
                                 try {
                                   run(state);
                                 } catch (const std::exception& error) {
                                   state.SkipWithError(error.what());
                                 }
                               })
      ->MeasureProcessCPUTime()  // of all threads; the less disturbed figure on a busy machine
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

const bool registered = [] {
  for (const LayerSize& size : kLayers) {
    for (const std::int64_t m : kRows) {
      const std::string prefix = std::string("int4_matmul/") + size.name + "/m:" + std::to_string(m) + "/";
      for (const kernels::KernelIdentity& identity : kernels::RegisteredKernels()) {
        if (identity.device != "cpu") continue;  // cuda_kernel_benchmark.cc
        Register(prefix + identity.family,
                 [=](benchmark::State& state) { RunKernel(state, identity, size, m, /*ordered=*/false); });
        if (!identity.ordered_op.empty()) {
          Register(prefix + identity.family + "_ordered",
                   [=](benchmark::State& state) { RunKernel(state, identity, size, m, /*ordered=*/true); });
        }
      }
      Register(prefix + "aten_fp32", [=](benchmark::State& state) { RunDense(state, at::kFloat, size, m); });
      Register(prefix + "aten_bf16", [=](benchmark::State& state) { RunDense(state, at::kBFloat16, size, m); });
#ifdef GTEST_DETERMINISM_HAVE_OPENVINO
      Register(prefix + "openvino", [=](benchmark::State& state) { RunOpenVino(state, size, m); });
#endif
    }
  }
  return true;
}();

}  // namespace
}  // namespace quant_suites
