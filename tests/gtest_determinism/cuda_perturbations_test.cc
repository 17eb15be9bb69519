// What the perturbations of a GPU do, and that none stays.
#include "gtest_determinism/cuda_perturbations.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "cuda_test_device.h"
#include "cuda_test_kernels.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CudaPerturbations : public DeviceTest {
 protected:
  // How many multiprocessors a kernel with a block for each got.
  int MultiprocessorsGot() {
    const DeviceBuffer<unsigned char> used({1024});
    CudaMemory().Fill(used.data(), 0, 1024);
    LaunchMarkMultiprocessors(used.data(), 100000, stream_);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<unsigned char> marks(1024);
    // Not ToHost(): that waits for the device, which ends the contention.
    CudaMemory().CopyToHost(marks.data(), used.data(), marks.size());
    return static_cast<int>(std::count(marks.begin(), marks.end(), 1));
  }
};

TEST_F(CudaPerturbations, ContentionTakesMultiprocessorsAndGivesThemBack) {
  const int all = MultiprocessorsGot();
  const auto contention = SmContention({.burst = std::chrono::milliseconds(20)});
  int least = all;
  for (int run = 1; run <= 8; ++run) {
    contention->Apply(run, 42);
    least = std::min(least, MultiprocessorsGot());
    contention->Undo();
  }
  EXPECT_LT(least, all) << "no multiprocessor was taken in 8 runs";
  EXPECT_EQ(MultiprocessorsGot(), all) << "something still competes after Undo()";
}

TEST_F(CudaPerturbations, ContentionOfNothingTakesNothing) {
  const int all = MultiprocessorsGot();
  const auto contention = SmContention({.largest_share = 0});
  contention->Apply(1, 42);
  EXPECT_EQ(MultiprocessorsGot(), all);
  contention->Undo();
}

TEST_F(CudaPerturbations, WaitingForTheDeviceEndsContention) {
  const auto contention = SmContention({.burst = std::chrono::seconds(20), .limit = std::chrono::seconds(60)});
  for (int run = 1; run < 4; ++run) {
    contention->Apply(run, 7);
    CudaMemory().Synchronize();  // in 20 s, if it did not end it
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    contention->Undo();
  }
}

TEST_F(CudaPerturbations, ContentionBesideACaptureAndBesideAnAllocation) {
  const auto contention = SmContention();
  const DeviceBuffer<float> x({1000}), y({1000});
  LaunchIota(x.data(), 1000, 1, stream_);
  const auto run = GraphAgainstEager([&](cudaStream_t stream) {
    LaunchSlowIncrement(x.data(), y.data(), 1000, 1000, stream);
    return y.Span(stream);
  });
  EXPECT_THAT(RunRepeated(run, {.runs = 30, .perturbations = {{contention}}}), IsBitExact());
  const auto allocate = [&] {
    const DeviceBuffer<float> fresh({1 << 20});
    LaunchIota(fresh.data(), 1 << 20, 1, stream_);
    return fresh;
  };
  EXPECT_THAT(RunRepeated(allocate, {.runs = 10, .perturbations = {{contention}}}), IsBitExact());
}

TEST_F(CudaPerturbations, PoisonReachesFreedMemory) {
  const auto read_unset = [&] { return DeviceBuffer<float>({2000}); };
  const Report report = RunRepeated(read_unset, {.runs = 10, .perturbations = {{WorkspacePoison()}}});
  EXPECT_THAT(report, IsNondeterministic());
  const auto set = [&] {
    const DeviceBuffer<float> fresh({2000});
    LaunchIota(fresh.data(), 2000, 1, stream_);
    return fresh;
  };
  EXPECT_THAT(RunRepeated(set, {.runs = 10, .perturbations = {{WorkspacePoison()}}}), IsBitExact());
}

TEST_F(CudaPerturbations, PoisonOfAnAllocatorOfTheUsers) {
  std::vector<std::size_t> asked;
  int freed = 0;
  const DeviceBuffer<unsigned char> block({4096});
  WorkspacePoisonOptions options;
  options.allocator.allocate = [&](std::size_t bytes) -> void* {
    asked.push_back(bytes);
    return asked.size() == 2 ? nullptr : block.data();
  };
  options.allocator.free = [&](void*) { ++freed; };
  options.sizes = [] { return std::vector<std::size_t>{4096, 100, 512}; };
  const auto poison = WorkspacePoison(options);
  std::set<unsigned char> bytes;
  for (int run = 1; run < 4; ++run) {
    poison->Apply(run, 42);
    poison->Undo();
    bytes.insert(block.ToHost().at(4095));
  }
  EXPECT_THAT(std::vector(asked.begin(), asked.begin() + 3), ElementsAre(4096u, 100u, 512u));
  EXPECT_EQ(freed, 8);
  EXPECT_EQ(bytes.size(), 3u) << "the byte changes from run to run";
  EXPECT_EQ(bytes.count(0), 0u);
}

TEST_F(CudaPerturbations, PoisonThroughThePool) {
  const auto poison = WorkspacePoison({.allocator = CudaMallocAsyncAllocator(stream_)});
  poison->Apply(1, 42);
  poison->Undo();
}

// Two streams without an order: which is done first is seen by what a third reads.
TEST_F(CudaPerturbations, DelaysHoldTheirStreamsAndTheHost) {
  const auto delay = LaunchDelay({stream_}, std::chrono::milliseconds(40));
  int held = 0;
  for (int run = 1; run <= 6; ++run) {
    delay->Apply(run, 42);
    held += cudaStreamQuery(stream_) == cudaErrorNotReady;
    delay->Point();
    delay->Undo();
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }
  EXPECT_GE(held, 1) << "the stream was never held longer than the host";
  EXPECT_LE(held, 5) << "the host was never held longer than the stream";
}

TEST_F(CudaPerturbations, CacheStateLeavesMemoryAlone) {
  const DeviceBuffer<float> x({100000});
  const auto read = [&] {
    LaunchIota(x.data(), 100000, 1, stream_);
    return x.Span(stream_);
  };
  EXPECT_THAT(RunRepeated(read, {.runs = 10, .perturbations = {{CacheState()}}}), IsBitExact());
}

class CudaLaunchModes : public DeviceTest {};

bool IsCaptured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
  return status == cudaStreamCaptureStatusActive;
}

TEST_F(CudaLaunchModes, GraphsAndEagerRunsTakeTurns) {
  const DeviceBuffer<float> y({100});
  std::vector<bool> captured;
  const auto launch = [&](cudaStream_t stream) {
    captured.push_back(IsCaptured(stream));
    LaunchIota(y.data(), 100, 1, stream);
    return y.Span(stream);
  };
  EXPECT_THAT(RunRepeated(GraphAgainstEager(launch), {.runs = 4, .property = kGraphAgainstEager}), IsBitExact());
  EXPECT_THAT(captured, ElementsAre(false, true, false, true));
}

TEST_F(CudaLaunchModes, WhatDependsOnTheGraphIsFound) {
  const DeviceBuffer<float> y({100});
  const auto launch = [&](cudaStream_t stream) {
    LaunchIota(y.data(), 100, IsCaptured(stream) ? 2 : 1, stream);
    return y.Span(stream);
  };
  const Report report = RunRepeated(GraphAgainstEager(launch), {.runs = 6});
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(report.power.deviations, 3);
}

TEST_F(CudaLaunchModes, OutputsAreWrittenByTheGraph) {
  const auto launch = [&](cudaStream_t stream, Outputs& out) {
    const DeviceSpan<float> y = DeviceOutput<float>(out, "y", {100}, stream);
    LaunchIota(y.data, 100, 1, stream);
  };
  EXPECT_THAT(RunRepeated(GraphAgainstEager(launch), {.runs = 6}), IsBitExact());
  const auto forgets = [&](cudaStream_t stream, Outputs& out) {
    const DeviceSpan<float> y = DeviceOutput<float>(out, "y", {100}, stream);
    if (!IsCaptured(stream)) LaunchIota(y.data, 100, 1, stream);
  };
  EXPECT_THAT(RunRepeated(GraphAgainstEager(forgets), {.runs = 6}), IsNondeterministic());
}

TEST_F(CudaLaunchModes, WhatCannotBeCapturedIsAnErrorAndNoMore) {
  const DeviceBuffer<float> y({100});
  const auto waits = [&](cudaStream_t stream) {
    LaunchIota(y.data(), 100, 1, stream);
    if (cudaStreamSynchronize(stream) != cudaSuccess) throw std::runtime_error("it cannot be waited for");
    return y.Span(stream);
  };
  const Report report = RunRepeated(GraphAgainstEager(waits), {.runs = 4});
  EXPECT_THAT(report, HasOutcome(Outcome::kError));
  EXPECT_THAT(report.reason, HasSubstr("run 1 threw: it cannot be waited for"));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_THAT(RunRepeated(OtherStream(waits), {.runs = 4}), IsBitExact());
}

TEST_F(CudaLaunchModes, OtherStreamsTakeTurns) {
  const DeviceBuffer<float> y({100});
  std::vector<cudaStream_t> streams;
  const auto launch = [&](cudaStream_t stream) {
    streams.push_back(stream);
    LaunchIota(y.data(), 100, 1, stream);
    return y.Span(stream);
  };
  EXPECT_THAT(RunRepeated(OtherStream(launch), {.runs = 6, .property = kOtherStream}), IsBitExact());
  ASSERT_EQ(streams.size(), 6u);
  EXPECT_EQ(streams[2], streams[0]);
  EXPECT_EQ(std::set<cudaStream_t>(streams.begin(), streams.end()).size(), 4u);
}

}  // namespace
}  // namespace gtest_determinism
