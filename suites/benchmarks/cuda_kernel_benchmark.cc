// INT4 matmuls on a CUDA device, by layer of Qwen3-8B, number of rows and provider:
//   int4_matmul_cuda/gate_up_4096x24576/m:64/marlin
//
// Every registered kernel is there, vLLM's where its libraries are, with cuBLAS in
// fp16 beside it. A time is that of one call in the replay of a graph whose calls
// take turns at 400 MB of weights, by CUDA events; the providers of a size take
// turns in each round. Beside it: the floor and its share, bytes and operations a
// second, and how many bit patterns repetitions on the same input gave.
#include <ATen/ops/mm.h>
#include <benchmark/benchmark.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest_determinism/digest.h"
#include "kernels/int4_matmul.h"
#include "suites/benchmarks/cuda_benchmarks.h"
#include "suites/benchmarks/cuda_registration.h"
#include "suites/benchmarks/cuda_timing.h"
#include "suites/device/device_layers.h"
#include "suites/device/device_patterns.h"
#include "suites/device/reference_columns.h"

namespace quant_suites {
namespace {

struct LayerSize {
  const char* name;
  std::int64_t k, n;
};
// q, k, v and gate, up are joined along N, as the engine runs them.
constexpr LayerSize kLayers[] = {
    {"qkv", 4096, 6144}, {"o", 4096, 4096}, {"gate_up", 4096, 24576}, {"down", 12288, 4096}};
constexpr double kRotated = 400e6;           // bytes of weights, eight times the cache of an H100
constexpr std::size_t kCallsOfFewRows = 96;  // in one graph, so that its own launch does not count
constexpr std::int64_t kFewRows = 128;
// ATen's kernel takes more than ten times as long as the others for many rows.
constexpr std::int64_t kMaxTinygemmRows = 256;

struct Provider {
  std::string name;
  kernels::KernelIdentity identity;  // family "" for cuBLAS
  bool ordered = false;
  bool batch_invariant = false;

  bool cublas() const { return identity.family.empty(); }
  bool TakesRows(std::int64_t rows) const { return identity.family != "tinygemm" || rows <= kMaxTinygemmRows; }
};

// Opens nothing, so that a list of benchmarks takes no time.
std::vector<Provider> AllProviders(const Selection& selection) {
  std::vector<Provider> providers = {{"cublas_fp16", {}}};
  const bool foreign = ForeignKernelsWanted(selection, selection.providers);
  for (const kernels::KernelIdentity& identity : kernels::RegisteredKernels()) {
    if (identity.device != "cuda" || (identity.provider == "vllm" && !foreign)) continue;
    const std::string name = (identity.provider == "vllm" ? "vllm_" : "") + identity.family;
    providers.push_back({name, identity});
    if (!identity.ordered_op.empty()) providers.push_back({name + "_ordered", identity, true});
  }
  // The batch-invariant form of those that have one.
  const std::size_t count = providers.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& family = providers[i].identity.family;
    if (providers[i].identity.provider != "builtin" || (family != "marlin" && family != "awq")) continue;
    Provider invariant = providers[i];
    invariant.name += "_invariant";
    invariant.batch_invariant = true;
    providers.push_back(std::move(invariant));
  }
  // cuBLAS, ours, ATen's, foreign ones.
  const auto rank = [](const Provider& p) {
    return p.cublas() ? 0 : p.identity.provider == "builtin" ? 1 : p.identity.provider == "aten" ? 2 : 3;
  };
  std::stable_sort(providers.begin(), providers.end(),
                   [&](const Provider& a, const Provider& b) { return rank(a) < rank(b); });
  return providers;
}

std::unique_ptr<kernels::Int4Matmul> MakeLayer(const Provider& provider, const kernels::QuantizedLinear& layer) {
  kernels::KernelRequest request{provider.identity.family, provider.identity.provider, "cuda"};
  request.batch_invariant = provider.batch_invariant;
  return kernels::MakeInt4Matmul(request, layer);
}

// Layers of the same random bits for all of a size's providers that read them.
class Weights {
 public:
  Weights(const LayerSize& size, const std::vector<Provider>& providers, double bytes) {
    const auto half_bytes = 2.0 * static_cast<double>(size.k) * static_cast<double>(size.n);
    const auto copies = static_cast<int>(bytes / suites::WeightBytes(size.k, size.n)) + 1;
    for (const Provider& provider : providers) {
      try {
        if (provider.cublas()) {
          for (int i = 0; i <= static_cast<int>(bytes / half_bytes); ++i) {
            halves_.push_back(suites::RandomHalves(size.n, size.k).mul(0.01).t());
          }
          references_[KeyOf(provider)] = suites::ReferenceOf(halves_.front());
          continue;
        }
        auto& layers = layers_[KeyOf(provider)];
        while (static_cast<int>(layers.size()) < copies) {
          const kernels::QuantizedLinear layer = suites::RandomLayer(provider.identity.family, size.k, size.n);
          if (layers.empty()) references_[KeyOf(provider)] = suites::ReferenceOf(layer);
          layers.push_back(MakeLayer(provider, layer));
        }
      } catch (const std::exception& error) {
        errors_[provider.name] = FirstLine(error);
      }
    }
  }

  // The calls of one turn over all layers. Throws std::runtime_error where they could not be made.
  std::vector<std::function<at::Tensor()>> Calls(const Provider& provider, const at::Tensor& halves,
                                                 const at::Tensor& bfloats) const {
    if (const auto it = errors_.find(provider.name); it != errors_.end()) throw std::runtime_error(it->second);
    std::vector<std::function<at::Tensor()>> calls;
    if (provider.cublas()) {
      for (const at::Tensor& w : halves_) calls.emplace_back([halves, &w] { return at::mm(halves, w); });
      return calls;
    }
    const at::Tensor& x = InputOf(provider, halves, bfloats);
    for (const auto& layer : layers_.at(KeyOf(provider))) {
      calls.emplace_back(
          [x, &layer, ordered = provider.ordered] { return ordered ? layer->ForwardOrdered(x) : layer->Forward(x); });
    }
    return calls;
  }
  // Of the first layer's result.
  double DeviationOf(const Provider& provider, const at::Tensor& y, const at::Tensor& halves,
                     const at::Tensor& bfloats) const {
    return suites::RelativeError(y, InputOf(provider, halves, bfloats), references_.at(KeyOf(provider)));
  }
  std::string PathOf(const Provider& provider, std::int64_t rows) const {
    return provider.cublas() ? "at::mm" : layers_.at(KeyOf(provider)).front()->PathFor(rows);
  }

 private:
  static std::string KeyOf(const Provider& provider) {
    return provider.identity.family + "/" + provider.identity.provider + (provider.batch_invariant ? "/invariant" : "");
  }

  static const at::Tensor& InputOf(const Provider& provider, const at::Tensor& halves, const at::Tensor& bfloats) {
    return provider.identity.family == "tinygemm" ? bfloats : halves;
  }

  std::map<std::string, std::vector<std::unique_ptr<kernels::Int4Matmul>>> layers_;
  std::map<std::string, suites::ReferenceColumns> references_;
  std::vector<at::Tensor> halves_;  // [K, N]
  std::map<std::string, std::string> errors_;
};

ComparisonRow RowOf(const LayerSize& size, std::int64_t m) {
  const double elements = static_cast<double>(size.k) * static_cast<double>(size.n);
  ComparisonRow row;
  row.name = size.name;
  row.k = size.k;
  row.n = size.n;
  row.rows = m;
  row.bytes = suites::WeightBytes(size.k, size.n) + 2 * static_cast<double>(m) * static_cast<double>(size.k + size.n);
  row.flops = 2 * static_cast<double>(m) * elements;
  row.floor_us = FloorMicroseconds(row.bytes, row.flops, DeviceCeilings());
  return row;
}

std::string DigestOfRow(const at::Tensor& row) {
  const at::Tensor host = row.contiguous().cpu();
  return gtest_determinism::ToHex(gtest_determinism::TreeDigest(host.const_data_ptr(), host.nbytes()));
}

// One row of the table: all providers in interleaved rounds. `halves` [m, K].
ComparisonRow MeasureRow(const LayerSize& size, const at::Tensor& halves, const std::vector<Provider>& providers,
                         const Weights& weights, const Selection& selection) {
  const std::int64_t m = halves.size(0);
  ComparisonRow row = RowOf(size, m);
  const at::Tensor bfloats = halves.to(at::kBFloat16);
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  std::vector<std::unique_ptr<GraphTimer>> timers;
  std::vector<Contender> contenders;
  std::vector<std::size_t> cells;  // of the contenders
  for (const Provider& provider : providers) {
    if (!provider.TakesRows(m)) continue;
    ComparisonCell& cell = row.cells.emplace_back();
    cell.provider = provider.name;
    try {
      const auto calls = weights.Calls(provider, halves, bfloats);
      cell.path = weights.PathOf(provider, m);
      const at::Tensor y = calls.front()();
      cell.deviation = weights.DeviationOf(provider, y, halves, bfloats);
      cell.first_row = DigestOfRow(y.select(0, 0));
      cell.runs = selection.pattern_runs;
      cell.patterns = suites::CountPatterns(calls.front(), selection.pattern_runs).distinct;
      std::vector<std::function<void()>> timed;
      for (const auto& call : calls) timed.emplace_back([call] { call(); });
      const int turns = m <= kFewRows ? static_cast<int>((kCallsOfFewRows + calls.size() - 1) / calls.size()) : 1;
      timers.push_back(std::make_unique<GraphTimer>(timed, turns));
      const GraphTimer* const timer = timers.back().get();
      contenders.push_back({[timer, stream] { timer->Start(stream); }, [timer] { return timer->Microseconds(); }});
      cells.push_back(row.cells.size() - 1);
    } catch (const std::exception& error) {
      cell.error = FirstLine(error);
    }
  }
  C10_CUDA_CHECK(cudaDeviceSynchronize());
  const auto times = MeasureOnStream(contenders, selection.rounds, stream);
  for (std::size_t i = 0; i < cells.size(); ++i) row.cells[cells[i]].us = times[i];
  return row;
}

std::vector<Provider> ChosenProviders(const Selection& selection) {
  std::vector<Provider> chosen;
  for (Provider& provider : AllProviders(selection)) {
    if (selection.Wants(provider.name, selection.providers)) chosen.push_back(std::move(provider));
  }
  return chosen;
}

// Measures a layer when one of its benchmarks first runs, all rows of it; repetitions
// of them only read what was measured.
class Matmuls {
 public:
  Matmuls(const Selection& selection, ComparisonTable* table) : selection_(selection), table_(table) {}

  void Want(const LayerSize& size, std::int64_t m, const Provider& provider) {
    wanted_[size.name][m].push_back(provider);
  }
  const ComparisonRow& RowFor(const LayerSize& size, std::int64_t m) {
    if (!measured_[size.name]) {
      measured_[size.name] = true;
      OpenDevice(selection_);
      table_->device = DeviceName();
      table_->ceilings = DeviceCeilings();
      table_->rounds = selection_.rounds;
      MeasureLayer(size);
    }
    for (const ComparisonRow& row : table_->rows) {
      if (row.name == size.name && row.rows == m) return row;
    }
    throw std::runtime_error("the measurement of this layer failed");
  }

 private:
  void MeasureLayer(const LayerSize& size) {
    const auto& rows = wanted_.at(size.name);
    std::vector<Provider> all;
    for (const auto& [m, providers] : rows) {
      for (const Provider& provider : providers) {
        const auto same = [&](const Provider& other) { return other.name == provider.name; };
        if (std::none_of(all.begin(), all.end(), same)) all.push_back(provider);
      }
    }
    suites::Seed(1);
    const Weights weights(size, all, kRotated);
    // The first rows of the same x for each size, so that their bits can be compared.
    const at::Tensor x = suites::RandomInput("marlin", rows.rbegin()->first, size.k);
    for (const auto& [m, providers] : rows) {
      table_->rows.push_back(MeasureRow(size, x.narrow(0, 0, m), providers, weights, selection_));
      WriteRowLine(std::cerr, table_->rows.back());
      c10::cuda::CUDACachingAllocator::emptyCache();
    }
    // Google Benchmark asks for the layers in an order of its own.
    std::stable_sort(table_->rows.begin(), table_->rows.end(),
                     [](const ComparisonRow& a, const ComparisonRow& b) { return PlaceOf(a.name) < PlaceOf(b.name); });
  }
  static std::ptrdiff_t PlaceOf(const std::string& layer) {
    return std::find_if(std::begin(kLayers), std::end(kLayers),
                        [&](const LayerSize& size) { return size.name == layer; }) -
           std::begin(kLayers);
  }

  const Selection selection_;
  ComparisonTable* const table_;
  std::map<std::string, std::map<std::int64_t, std::vector<Provider>>> wanted_;
  std::map<std::string, bool> measured_;
};

}  // namespace

void RegisterCudaMatmuls(const Selection& selection, ComparisonTable* table) {
  static std::unique_ptr<Matmuls> matmuls;
  matmuls = std::make_unique<Matmuls>(selection, table);
  const std::vector<Provider> providers = ChosenProviders(selection);
  for (const LayerSize& size : kLayers) {
    if (!selection.Wants(size.name, selection.layers)) continue;
    for (const std::int64_t m : selection.rows) {
      for (const Provider& provider : providers) {
        const std::string name = std::string("int4_matmul_cuda/") + size.name + "_" + std::to_string(size.k) + "x" +
                                 std::to_string(size.n) + "/m:" + std::to_string(m) + "/" + provider.name;
        if (!provider.TakesRows(m) || !FilterTakes(name)) continue;
        matmuls->Want(size, m, provider);
        RegisterMeasured(
            name, selection.rounds, benchmark::kMicrosecond,
            [&size, m, provider = provider.name]() -> const ComparisonRow& { return matmuls->RowFor(size, m); },
            provider.name);
      }
    }
  }
}

int RunMatmulsOnce(const Selection& selection) {
  OpenDevice(selection);
  const std::vector<Provider> providers = ChosenProviders(selection);
  int runs = 0;
  for (const LayerSize& size : kLayers) {
    if (!selection.Wants(size.name, selection.layers)) continue;
    suites::Seed(1);
    const Weights weights(size, providers, 1);  // one layer of each
    for (const std::int64_t m : selection.rows) {
      const at::Tensor halves = suites::RandomInput("marlin", m, size.k), bfloats = halves.to(at::kBFloat16);
      for (const Provider& provider : providers) {
        if (!provider.TakesRows(m)) continue;
        const auto call = weights.Calls(provider, halves, bfloats).front();
        call();
        C10_CUDA_CHECK(cudaDeviceSynchronize());
        const std::string range = std::string(size.name) + "/m:" + std::to_string(m) + "/" + provider.name;
        C10_CUDA_CHECK(cudaProfilerStart());
        nvtxRangePushA(range.c_str());
        call();
        nvtxRangePop();
        C10_CUDA_CHECK(cudaDeviceSynchronize());
        C10_CUDA_CHECK(cudaProfilerStop());
        ++runs;
      }
    }
  }
  return runs;
}

}  // namespace quant_suites
