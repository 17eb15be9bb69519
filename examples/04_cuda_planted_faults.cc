// Faults on a GPU that a comparison of two runs often misses, each beside its
// sound twin: the check must catch the first and pass the second. And what looks
// like a fault and is none. The kernels: tests/cuda_faults/faults.cu.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "faults.h"
#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/determinism.h"
#include "gtest_determinism/matchers.h"

namespace cuda_faults {
void PrintTo(const Info& info, std::ostream* out) { *out << info.name; }
}  // namespace cuda_faults

namespace {

using namespace gtest_determinism;
using cuda_faults::Info;
using cuda_faults::Planted;
using cuda_faults::Version;

constexpr int kRuns = 50;

// Timing that changes, memory that was used: what a fault needs in order to show.
// What competes comes last: it would slow down the others.
std::vector<std::shared_ptr<Perturbation>> Everything() {
  return {WorkspacePoison(), CacheState(), LaunchDelay({nullptr}), SmContention()};
}

DeviceSpan<const float> OutputOf(const Planted& planted, cudaStream_t stream) {
  return {static_cast<const float*>(planted.output()), {static_cast<std::int64_t>(planted.output_elements())}, stream};
}

Report Repeat(const char* name, Version version) {
  Planted planted(name, version);
  return RunRepeated(
      [&] {
        planted.Run(nullptr);
        return OutputOf(planted, nullptr);
      },
      {.runs = kRuns, .perturbations = Everything()});
}

std::vector<Info> Those(bool differ) {
  std::vector<Info> those;
  for (const Info& info : cuda_faults::AllPlanted()) {
    if (info.differs == differ) those.push_back(info);
  }
  return those;
}

class OnTheGpu : public testing::TestWithParam<Info> {
 protected:
  void SetUp() override {
    if (const std::string why = NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  }
};
const auto kName = [](const testing::TestParamInfo<Info>& info) { return std::string(info.param.name); };

class PlantedFault : public OnTheGpu {};
TEST_P(PlantedFault, IsFoundAndItsSoundTwinPasses) {
  EXPECT_THAT(Repeat(GetParam().name, Version::kFault), IsNondeterministic()) << GetParam().what;
  EXPECT_THAT(Repeat(GetParam().name, Version::kSound), IsBitExact());
}
INSTANTIATE_TEST_SUITE_P(Cuda, PlantedFault, testing::ValuesIn(Those(true)), kName);

class LeftAlone : public OnTheGpu {};
TEST_P(LeftAlone, IsBitExact) {
  EXPECT_THAT(Repeat(GetParam().name, Version::kFault), IsBitExact()) << GetParam().what;
}
INSTANTIATE_TEST_SUITE_P(Cuda, LeftAlone, testing::ValuesIn(Those(false)), kName);

// Run to run a tile size that follows the batch is bit-exact, as LeftAlone shows:
// the same row in another batch is another claim.
class Batch : public OnTheGpu {};
TEST_F(Batch, TileSizeThatFollowsTheBatch) {
  const auto in_batches_of_all_sizes = [](Version version) {
    Planted planted("tile_by_batch", version);
    int rows = 0;
    return RunRepeated(
        [&] {
          planted.Run(nullptr, rows++ % 64 + 1);
          return OutputOf(planted, nullptr);
        },
        {.runs = 64, .property = "batch"});
  };
  EXPECT_THAT(in_batches_of_all_sizes(Version::kFault), IsNondeterministic());
  EXPECT_THAT(in_batches_of_all_sizes(Version::kSound), IsBitExact());
}

// The sound twins, launched through a graph.
class Graph : public OnTheGpu {};
TEST_P(Graph, IsThatOfAnEagerRun) {
  Planted planted(GetParam().name, Version::kSound);
  const auto run = GraphAgainstEager([&](cudaStream_t stream) {
    planted.Run(stream);
    return OutputOf(planted, stream);
  });
  EXPECT_THAT(RunRepeated(run, {.runs = 10, .property = kGraphAgainstEager}), IsBitExact());
}
INSTANTIATE_TEST_SUITE_P(Cuda, Graph, testing::ValuesIn([] {
                           std::vector<Info> capturable;
                           for (const Info& info : cuda_faults::AllPlanted()) {
                             if (info.capturable) capturable.push_back(info);
                           }
                           return capturable;
                         }()),
                         kName);

}  // namespace
