// Rates of what gtest_determinism::cuda does with memory, beside those of reading
// it and of copying it on the device, in one run. Manual times, by events, unless
// "real_time" is in the name.
#include <benchmark/benchmark.h>

#include <chrono>
#include <functional>
#include <stdexcept>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/internal/cuda_kernels.h"

namespace {

using gtest_determinism::BytePair;
using gtest_determinism::CudaCompareQueue;
using gtest_determinism::CudaDigestQueue;
using gtest_determinism::CudaMemory;
using gtest_determinism::DeviceBuffer;
using gtest_determinism::DType;
using gtest_determinism::MemorySpace;

void Check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

struct Timer {
  Timer() {
    Check(cudaEventCreate(&begin));
    Check(cudaEventCreate(&end));
    Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaStreamDestroy(stream);
  }
  double Seconds(const std::function<void()>& work) const {
    Check(cudaEventRecord(begin, stream));
    work();
    Check(cudaEventRecord(end, stream));
    Check(cudaEventSynchronize(end));
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end));
    return milliseconds * 1e-3;
  }
  cudaEvent_t begin{}, end{};
  cudaStream_t stream{};
};

// Two buffers of equal, varied bytes.
struct Memory {
  explicit Memory(std::size_t n) : bytes(n), a({static_cast<std::int64_t>(n)}), b({static_cast<std::int64_t>(n)}) {
    for (std::size_t at = 0; at < n; at += n / 16 + 1) {
      const std::size_t size = std::min(n / 16 + 1, n - at);
      CudaMemory().Fill(a.data() + at, static_cast<std::uint8_t>(at * 37 + 11), size);
    }
    CudaMemory().Copy(b.data(), a.data(), n);
  }
  std::size_t bytes;
  DeviceBuffer<unsigned char> a, b;
};

// `moved`: bytes of device memory read and written, for each byte of the buffer.
void Run(
    benchmark::State& state, double moved,
    const std::function<void(const Memory&, const Timer&, std::size_t offset)>& work,
    const std::function<void()>& take = [] {}) {
  if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) {
    state.SkipWithError(why.c_str());
    return;
  }
  const auto bytes = static_cast<std::size_t>(state.range(0));
  // Small ones by turns in a larger buffer, so that they do not lie in the cache.
  const std::size_t all = std::max<std::size_t>(bytes, std::size_t{256} << 20);
  const Memory memory(all);
  const Timer timer;
  std::size_t offset = 0;
  work(memory, timer, 0);  // what is allocated once is allocated now
  Check(cudaStreamSynchronize(timer.stream));
  double seconds = 0;
  for (auto _ : state) {
    const double time = timer.Seconds([&] { work(memory, timer, offset); });
    state.SetIterationTime(time);
    seconds += time;
    offset = offset + 2 * bytes <= all ? offset + bytes : 0;
  }
  take();
  state.counters["GB/s"] =
      benchmark::Counter(moved * static_cast<double>(bytes) * static_cast<double>(state.iterations()) / seconds * 1e-9);
}

void Read(benchmark::State& state) {
  const DeviceBuffer<std::uint32_t>* sink = nullptr;
  if (gtest_determinism::NoCudaDevice().empty()) {
    static const DeviceBuffer<std::uint32_t> word({1});
    sink = &word;
  }
  Run(state, 1, [&](const Memory& m, const Timer& t, std::size_t offset) {
    gtest_determinism::internal::LaunchPlainRead(m.a.data() + offset, static_cast<std::size_t>(state.range(0)),
                                                 sink->data(), t.stream);
  });
}

void Copy(benchmark::State& state) {
  Run(state, 2, [&](const Memory& m, const Timer& t, std::size_t offset) {
    Check(cudaMemcpyAsync(m.b.data() + offset, m.a.data() + offset, static_cast<std::size_t>(state.range(0)),
                          cudaMemcpyDeviceToDevice, t.stream));
  });
}

// Through the queue, as a trace does it.
void Digest(benchmark::State& state, std::size_t misaligned) {
  std::unique_ptr<CudaDigestQueue> queue;
  if (gtest_determinism::NoCudaDevice().empty()) queue = std::make_unique<CudaDigestQueue>();
  Run(
      state, 1,
      [&](const Memory& m, const Timer& t, std::size_t offset) {
        queue->Enqueue(m.a.data() + offset + misaligned, static_cast<std::size_t>(state.range(0)) - misaligned,
                       t.stream);
      },
      [&] { queue->Take(); });
}

void Equal(benchmark::State& state) {
  std::unique_ptr<CudaCompareQueue> queue;
  if (gtest_determinism::NoCudaDevice().empty()) queue = std::make_unique<CudaCompareQueue>();
  Run(
      state, 2,
      [&](const Memory& m, const Timer& t, std::size_t offset) {
        queue->Enqueue(m.a.data() + offset, m.b.data() + offset, static_cast<std::size_t>(state.range(0)), t.stream);
      },
      [&] { queue->Take(); });
}

// The host's time for each of a thousand calls, and the device's.
void DigestQueueOfAThousand(benchmark::State& state) {
  if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) {
    state.SkipWithError(why.c_str());
    return;
  }
  constexpr int kItems = 1000;
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const Memory memory(bytes * 64);
  const Timer timer;
  CudaDigestQueue queue;
  double host = 0;
  const auto all = [&] {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kItems; ++i) queue.Enqueue(memory.a.data() + i % 64 * bytes, bytes, timer.stream);
    host += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  all();
  queue.Take();
  host = 0;
  double seconds = 0;
  for (auto _ : state) {
    const double time = timer.Seconds(all);
    queue.Take();
    state.SetIterationTime(time);
    seconds += time;
  }
  const double items = kItems * static_cast<double>(state.iterations());
  state.counters["us_host"] = benchmark::Counter(host / items * 1e6);
  state.counters["us_each"] = benchmark::Counter(seconds / items * 1e6);
}

// A row of halves that differs everywhere, described: where it lies, and as any space
// can do it, on the host. From the call to its end.
void DifferencesOf(benchmark::State& state, bool on_the_host) {
  if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) {
    state.SkipWithError(why.c_str());
    return;
  }
  const auto elements = static_cast<std::size_t>(state.range(0));
  const DeviceBuffer<std::uint16_t> a({state.range(0)}), b({state.range(0)});
  const MemorySpace& space = CudaMemory();
  space.Fill(a.data(), 0x3c, 2 * elements);
  space.Fill(b.data(), 0x3d, 2 * elements);
  const auto work = [&] {
    return on_the_host ? space.MemorySpace::DifferencesOf(a.data(), b.data(), elements, DType::kFloat16)
                       : space.DifferencesOf(a.data(), b.data(), elements, DType::kFloat16);
  };
  if (work().different_elements != state.range(0)) state.SkipWithError("not all of them differ");
  for (auto _ : state) benchmark::DoNotOptimize(work());
}

// As many rows of 300 KB: at once, and one after the other.
void EqualEach(benchmark::State& state, bool one_by_one) {
  if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) {
    state.SkipWithError(why.c_str());
    return;
  }
  constexpr std::size_t kRow = 2 * 151936;
  const auto rows = static_cast<std::size_t>(state.range(0));
  const Memory memory(rows * kRow);
  std::vector<BytePair> pairs;
  for (std::size_t i = 0; i < rows; ++i)
    pairs.push_back({memory.a.data() + i * kRow, memory.b.data() + i * kRow, kRow});
  const MemorySpace& space = CudaMemory();
  const auto work = [&] { return one_by_one ? space.MemorySpace::EqualEach(pairs) : space.EqualEach(pairs); };
  if (work() != std::vector<bool>(rows, true)) state.SkipWithError("some differ");
  for (auto _ : state) benchmark::DoNotOptimize(work());
}

constexpr std::int64_t kGigabyte = 1000000000, kKiB = 1024, kMiB = 1024 * kKiB;

void Sizes(benchmark::internal::Benchmark* b) {
  for (const std::int64_t bytes : {8 * kKiB, 128 * kKiB, kMiB, 31 * kMiB, kGigabyte}) b->Arg(bytes);
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.05);
}

BENCHMARK(Read)->Apply(Sizes);
BENCHMARK(Copy)->Apply(Sizes);
BENCHMARK_CAPTURE(Digest, aligned, 0)->Apply(Sizes);
BENCHMARK_CAPTURE(Digest, aligned_to_4, 4)->Arg(kGigabyte)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Digest, aligned_to_2, 2)->Arg(kGigabyte)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(Equal)->Apply(Sizes);
BENCHMARK_CAPTURE(DifferencesOf, where_they_lie, false)->Arg(151936)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(DifferencesOf, on_the_host, true)->Arg(151936)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(EqualEach, at_once, false)->Arg(1)->Arg(52)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(EqualEach, one_by_one, true)->Arg(1)->Arg(52)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(DigestQueueOfAThousand)->Arg(8 * kKiB)->Arg(128 * kKiB)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
