#include "gtest_determinism/perturbations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_ALLOCATOR 0  // a sanitizer's malloc knows no mallopt
#else
#define OWN_ALLOCATOR 1
#endif

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using Perturbations = std::vector<std::shared_ptr<Perturbation>>;

#if OWN_ALLOCATOR && defined(__GLIBC__)
// Reads what malloc left in a block, beyond its own list pointers.
std::vector<unsigned char> ReadUnset(std::size_t bytes) {
  auto* block = static_cast<unsigned char*>(std::malloc(bytes));
  std::vector<unsigned char> seen;
  for (std::size_t i = 16; i < 48; ++i)
    seen.push_back(static_cast<unsigned char>(static_cast<volatile unsigned char*>(block)[i]));
  std::free(block);
  return seen;
}

class AllocatorPoisonSizes : public testing::TestWithParam<std::size_t> {};

TEST_P(AllocatorPoisonSizes, FreshBlocksHoldTheByteOfTheRun) {
  const std::shared_ptr<Perturbation> poison = AllocatorPoison();
  std::set<unsigned char> seen;
  for (int run = 1; run < 6; ++run) {
    const auto byte = static_cast<unsigned char>(1 + MixSeed(42, run) % 255);
    poison->Apply(run, 42);
    const std::vector<unsigned char> block = ReadUnset(GetParam());
    poison->Undo();
    // glibc writes the complement where it hands a block out.
    const auto complement = static_cast<unsigned char>(byte ^ 0xff);
    EXPECT_THAT(block, testing::AnyOf(testing::Each(byte), testing::Each(complement))) << run;
    seen.insert(block.front());
  }
  EXPECT_GE(seen.size(), 4u);
}

TEST_P(AllocatorPoisonSizes, MemoryThatIsReadBeforeItIsSetDiffers) {
  const auto read = [] { return ReadUnset(GetParam()); };
  EXPECT_THAT(RunRepeated(read, {.runs = 5}), IsNondeterministic()) << "it is among the defaults";
}
// The thread cache hands out blocks up to 1,032 bytes; from 128 KiB on it is mmap.
INSTANTIATE_TEST_SUITE_P(Malloc, AllocatorPoisonSizes, testing::Values(64, 1000, 1040, 20000, 1000000),
                         [](const auto& info) { return std::to_string(info.param) + "Bytes"; });
#endif

TEST(AllocatorPoisonTest, MemoryThatIsSetIsNotTouched) {
  const auto sound = [] {
    std::vector<std::vector<int>> values;
    for (int i = 1; i < 200; ++i) values.emplace_back(i * 10, i);
    return values;
  };
  EXPECT_THAT(RunRepeated(sound, {.runs = 5, .perturbations = Perturbations{AllocatorPoison()}}), IsBitExact());
}

TEST(CompetingLoadTest, BurnsCpuWhileARunGoesOnAndStopsAfterIt) {
  const std::shared_ptr<Perturbation> load = CompetingLoad(2);
  EXPECT_EQ(load->Name(), "competing_load(threads=2)");
  // A run in which both threads are active, by the seed.
  int run = 1;
  while (MixSeed(7 ^ 0x6c6f6164, run) % 3 != 2) ++run;
  const auto cpu = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  const double before = cpu();
  load->Apply(run, 7);
  while (cpu() - before < 0.05) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // this thread only sleeps
  load->Undo();
}

TEST(CompetingLoadTest, ThreadsOfItAreJoined) {
  for (int i = 0; i < 20; ++i) {
    const std::shared_ptr<Perturbation> load = CompetingLoad(3);
    load->Apply(i, 1);
    if (i % 2 == 0) load->Undo();
  }
}

TEST(CompetingLoadTest, EveryNumberOfThreadsComesUp) {
  std::set<std::uint64_t> seen;
  for (int run = 1; run < 30; ++run) seen.insert(MixSeed(42 ^ 0x6c6f6164, run) % 3);
  EXPECT_EQ(seen.size(), 3u);
}

TEST(MixSeedTest, SplitMix64) {
  // First outputs of the reference generator with the seed 1234567.
  EXPECT_EQ(MixSeed(1234567, 0), 6457827717110365317u);
  EXPECT_EQ(MixSeed(1234567, 1), 3203168211198807973u);
  EXPECT_EQ(MixSeed(1234567, 2), 9817491932198370423u);
}

class Recorder final : public Perturbation {
 public:
  Recorder(std::string name, std::vector<std::string>& log) : name_(std::move(name)), log_(log) {}
  std::string Name() const override { return name_; }
  void Apply(int run, std::uint64_t seed) override {
    if (fails) throw std::runtime_error("cannot " + name_);
    log_.push_back("+" + name_ + std::to_string(run) + "/" + std::to_string(seed));
  }
  void Undo() override {
    log_.push_back("-" + name_);
    if (fails_to_undo) throw std::runtime_error("cannot undo " + name_);
  }
  bool fails = false, fails_to_undo = false;

 private:
  std::string name_;
  std::vector<std::string>& log_;
};

TEST(PerturbationTest, AppliedBeforeEachRunButTheFirstAndUndoneInReverse) {
  std::vector<std::string> log;
  const Perturbations both = {std::make_shared<Recorder>("a", log), std::make_shared<Recorder>("b", log)};
  const Report report = RunRepeated(
      [&log] {
        log.push_back("run");
        return 1;
      },
      {.runs = 3, .perturbations = both, .seed = 9});
  EXPECT_THAT(log, ElementsAre("run", "+a1/9", "+b1/9", "run", "-b", "-a", "+a2/9", "+b2/9", "run", "-b", "-a"));
  EXPECT_THAT(report.perturbations, ElementsAre("a(seed=9)", "b(seed=9)"));
  EXPECT_EQ(report.seed, 9u);
}

TEST(PerturbationTest, UndoneWhereARunOrALaterOneThrows) {
  std::vector<std::string> log;
  const auto a = std::make_shared<Recorder>("a", log);
  const auto b = std::make_shared<Recorder>("b", log);
  int run = 0;
  const Report thrown = RunRepeated([&run] { return ++run == 2 ? throw std::runtime_error("x") : 1; },
                                    {.runs = 3, .perturbations = Perturbations{a}});
  EXPECT_EQ(thrown.outcome, Outcome::kError);
  EXPECT_EQ(log.back(), "-a");
  log.clear();
  b->fails = true;
  const Report broken = RunRepeated([] { return 1; }, {.runs = 3, .perturbations = Perturbations{a, b}, .seed = 1});
  EXPECT_EQ(broken.outcome, Outcome::kError);
  EXPECT_EQ(broken.reason, "run 1 threw: cannot b");
  EXPECT_THAT(log, ElementsAre("+a1/1", "-a"));
}

TEST(PerturbationTest, AnUndoThatThrowsEndsTheRunsAndTheOthersAreUndone) {
  std::vector<std::string> log;
  const auto a = std::make_shared<Recorder>("a", log);
  const auto b = std::make_shared<Recorder>("b", log);
  b->fails_to_undo = true;
  const Options options{.runs = 3, .perturbations = Perturbations{a, b}, .seed = 1};
  const Report alone = RunRepeated([] { return 1; }, options);
  EXPECT_EQ(alone.outcome, Outcome::kError);
  EXPECT_EQ(alone.reason, "run 1 threw: cannot undo b");
  EXPECT_THAT(log, ElementsAre("+a1/1", "+b1/1", "-b", "-a"));
  // What the run threw comes first.
  int run = 0;
  const Report after = RunRepeated([&run] { return ++run == 2 ? throw std::runtime_error("x") : 1; }, options);
  EXPECT_EQ(after.reason, "run 1 threw: x");
  EXPECT_EQ(log.back(), "-a");
  // And what a later Apply() threw.
  const auto c = std::make_shared<Recorder>("c", log);
  c->fails = true;
  const Report applying = RunRepeated([] { return 1; }, {.runs = 3, .perturbations = Perturbations{a, b, c}});
  EXPECT_EQ(applying.reason, "run 1 threw: cannot c");
  EXPECT_EQ(log.back(), "-a");
}

}  // namespace
}  // namespace gtest_determinism
