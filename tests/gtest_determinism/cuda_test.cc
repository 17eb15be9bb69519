// Device memory as things with bits, and as outputs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gmock/gmock.h>

#include <numeric>

#include "cuda_test_device.h"
#include "cuda_test_kernels.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

static_assert(HasBits<DeviceSpan<float>> && HasBits<DeviceBuffer<__half>> && HasBits<DeviceSpan<__nv_bfloat16>>);
static_assert(HasBits<std::pair<DeviceSpan<int>, std::vector<float>>> && !DeviceElement<float*>);
static_assert(internal::DeviceDTypeOf<__half>() == DType::kFloat16 &&
              internal::DeviceDTypeOf<__nv_bfloat16>() == DType::kBFloat16 &&
              internal::DeviceDTypeOf<std::int64_t>() == DType::kInt64);

class CudaBits : public DeviceTest {};
class CudaOutputs : public DeviceTest {};

template <class T>
std::string ErrorOf(const T& value) {
  try {
    TraceOf(value);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(CudaBits, SpanIsAViewOfDeviceMemory) {
  const DeviceBuffer<float> buffer({2, 3});
  const Trace trace = TraceOf(buffer.Span(stream_));
  ASSERT_EQ(trace.size(), 1u);
  EXPECT_EQ(trace[0].view.data, buffer.data());
  EXPECT_EQ(trace[0].view.space, &CudaMemory(0));
  EXPECT_EQ(trace[0].view.space->Name(), "cuda:0");
  EXPECT_EQ(trace[0].view.bytes, 24u);
  EXPECT_EQ(trace[0].view.dtype, DType::kFloat32);
  EXPECT_THAT(trace[0].view.shape, ElementsAre(2, 3));
}

TEST_F(CudaBits, BufferOutlivesAsABitView) {
  Trace trace;
  {
    const std::vector<std::int32_t> values = {3, 1, 4};
    trace = TraceOf(DeviceBuffer<std::int32_t>::From(values));
  }
  std::int32_t copied[3];
  trace[0].view.space->CopyToHost(copied, trace[0].view.data, sizeof(copied));
  EXPECT_THAT(copied, ElementsAre(3, 1, 4));
}

TEST_F(CudaBits, WhatIsNoDeviceMemoryIsRefused) {
  std::vector<float> host(4);
  EXPECT_EQ(ErrorOf(DeviceSpan<float>{nullptr, {4}}), "device memory has no address");
  EXPECT_EQ(ErrorOf(std::pair(DeviceSpan<float>{nullptr, {4}}, 1)), "device memory '[0]' has no address");
  EXPECT_EQ(ErrorOf(DeviceSpan<float>{host.data(), {4}}),
            "device memory is memory of the host: compare a std::span of it");
  const DeviceBuffer<float> buffer({4});
  EXPECT_EQ(ErrorOf(DeviceSpan<float>{buffer.data(), {-1}}), "device memory has a negative extent");
  EXPECT_THAT(ErrorOf(DeviceSpan<float>{buffer.data(), {4}, nullptr, 99}), HasSubstr("device cuda:99: there are "));
  EXPECT_EQ(ErrorOf(DeviceSpan<float>{nullptr, {0}}), "no error");
  EXPECT_EQ(ErrorOf(buffer.Span()), "no error");
  EXPECT_THROW(DeviceBuffer<float>({2, -3}), std::invalid_argument);
  EXPECT_THROW(DeviceBuffer<float>({std::int64_t{1} << 40}), std::bad_alloc);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(CudaBits, DifferenceIsFoundOnTheDeviceAndExplained) {
  const DeviceBuffer<__half> y({10, 100});
  int run = 0;
  const auto fault = [&] {
    LaunchIotaHalf(y.data(), 1000, 0, stream_);
    if (++run == 4) LaunchIotaHalf(reinterpret_cast<unsigned char*>(y.data()) + 2 * 205, 1, 7, stream_);
    return y.Span(stream_);
  };
  const Report report = RunRepeated(fault, {.runs = 6});
  EXPECT_THAT(report, IsNondeterministic());
  ASSERT_TRUE(report.first_divergence.has_value());
  EXPECT_EQ(report.first_divergence->run, 3);
  EXPECT_THAT(report.first_divergence->diff.coordinate, ElementsAre(2, 5));
  EXPECT_EQ(report.first_divergence->diff.actual_word, 0x4700u);
  const auto sound = [&] {
    LaunchIotaHalf(y.data(), 1000, 0, stream_);
    return y.Span(stream_);
  };
  EXPECT_THAT(RunRepeated(sound, {.runs = 6}), IsBitExact());
  EXPECT_THAT(RunRepeated(sound, {.runs = 6, .digest_only = true}), IsBitExact());
}

// The bits are taken when the work on the span's stream is done.
TEST_F(CudaBits, SpanWaitsForItsStream) {
  const DeviceBuffer<float> x({1000}), y({1000});
  LaunchIota(x.data(), 1000, 1, stream_);
  CudaMemory().Fill(y.data(), 0, 4000);
  LaunchSlowIncrement(x.data(), y.data(), 1000, 2000000, stream_);
  const Trace trace = TraceOf(y.Span(stream_));
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
  EXPECT_EQ(y.ToHost()[999], 1001.0f);
}

TEST_F(CudaOutputs, PoisonedBeforeEachRun) {
  std::vector<unsigned char> seen;
  const auto look = [&](Outputs& out) {
    const DeviceSpan<float> y = DeviceOutput<float>(out, "y", {100}, stream_);
    unsigned char byte = 0;
    CudaMemory().CopyToHost(&byte, reinterpret_cast<unsigned char*>(y.data) + 399, 1);
    seen.push_back(byte);
    LaunchIota(y.data, 100, 1, y.stream);
  };
  EXPECT_THAT(RunRepeated(look, {.runs = 4}), IsBitExact());
  EXPECT_THAT(seen, ElementsAre(0xa5, 0x5a, 0xff, 0x00));
}

TEST_F(CudaOutputs, UnsetElementsAreFound) {
  const auto fill = [&](Outputs& out, std::int64_t n) {
    LaunchIota(DeviceOutput<float>(out, "y", {1000}).data, n, 1, stream_);
  };
  const Report fault = RunRepeated([&](Outputs& out) { fill(out, 997); });
  EXPECT_THAT(fault, HasOutcome(Outcome::kError));
  EXPECT_THAT(fault.reason, HasSubstr("element 997 of output 'y' was never written"));
  EXPECT_THAT(fault.reason, HasSubstr("(3 of 1000 elements)"));
  EXPECT_THAT(RunRepeated([&](Outputs& out) { fill(out, 1000); }), IsBitExact());
}

TEST_F(CudaOutputs, WritesOutsideAreFound) {
  const auto fill = [&](Outputs& out, std::int64_t n, int from) {
    LaunchIota(DeviceOutput<float>(out, "y", {1000}).data + from, n, 1, stream_);
  };
  EXPECT_THAT(RunRepeated([&](Outputs& out) { fill(out, 1001, 0); }).reason,
              HasSubstr("wrote outside output 'y': byte 4000 of its 4000"));
  EXPECT_THAT(RunRepeated([&](Outputs& out) { fill(out, 1001, -1); }).reason,
              HasSubstr("wrote outside output 'y': byte -"));
  EXPECT_THAT(RunRepeated([&](Outputs& out) { fill(out, 1000, 0); }), IsBitExact());
}

// A thousand elements that are the poison of run 0 by chance: looked at on the
// device, and found to be written in the next run.
TEST_F(CudaOutputs, ValuesThatEqualThePoison) {
  const auto fill = [&](Outputs& out) {
    void* y = out.Buffer("y", DType::kUInt8, {1000}, CudaMemory());
    CudaMemory().Fill(y, 0xa5, 1000);
  };
  EXPECT_THAT(RunRepeated(fill), IsBitExact());
}

TEST_F(CudaOutputs, HostAndDeviceInOneRun) {
  int run = 0;
  const auto both = [&](Outputs& out) {
    LaunchIota(DeviceOutput<float>(out, "device", {50}).data, 50, 1, stream_);
    out.Buffer<int>("host", {1})[0] = ++run < 3 ? 1 : 2;
  };
  const Report report = RunRepeated(both, {.runs = 4});
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(report.first_divergence->part, "host");
}

TEST_F(CudaBits, MissingDeviceErrorNamesTheDevice) {
  EXPECT_THROW(CudaMemory(-1), std::invalid_argument);
  try {
    CudaMemory(1000);
    FAIL() << "there are hardly a thousand devices";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("device cuda:1000: there are "));
  }
}

}  // namespace
}  // namespace gtest_determinism
