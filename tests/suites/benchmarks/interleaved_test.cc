#include "suites/benchmarks/interleaved.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

namespace quant_suites {
namespace {

using testing::ElementsAre;

TEST(RoundOrders, EveryContenderOnceInEachRound) {
  const auto orders = RoundOrders(7, 20);
  ASSERT_EQ(orders.size(), 20u);
  std::vector<std::size_t> all(7);
  std::iota(all.begin(), all.end(), std::size_t{0});
  for (const auto& order : orders) EXPECT_TRUE(std::is_permutation(order.begin(), order.end(), all.begin(), all.end()));
}

// With a fixed order one contender would always run in the wake of the same other.
TEST(RoundOrders, NoneAlwaysFollowsTheSameOther) {
  std::vector<std::set<std::size_t>> before(5);
  for (const auto& order : RoundOrders(5, 20)) {
    for (std::size_t i = 1; i < order.size(); ++i) before[order[i]].insert(order[i - 1]);
  }
  for (const auto& others : before) EXPECT_GE(others.size(), 3u);
}

TEST(RoundOrders, TheSameEachTimeAndAnotherForAnotherSeed) {
  EXPECT_EQ(RoundOrders(6, 5), RoundOrders(6, 5));
  EXPECT_NE(RoundOrders(6, 5), RoundOrders(6, 5, 2));
}

// A machine whose every sample is slower than the one before.
struct SlowingMachine {
  double us = 100;
  double Sample() { return us += 1; }
};

std::vector<double> MediansByTurns(int contenders, int rounds) {
  SlowingMachine machine;
  std::vector<double> last(static_cast<std::size_t>(contenders));
  std::vector<Contender> all;
  for (double& us : last) {
    all.push_back({[&machine, &us] { us = machine.Sample(); }, [&us] { return us; }});
  }
  std::vector<double> medians;
  for (const auto& times : MeasureInterleaved(all, rounds, [] {})) medians.push_back(Median(times));
  return medians;
}

// Equal contenders look equal, to within one round's drift.
TEST(MeasureInterleaved, DriftFallsOnAllAlike) {
  const std::vector<double> medians = MediansByTurns(4, 25);
  const auto [least, most] = std::minmax_element(medians.begin(), medians.end());
  EXPECT_LE(*most - *least, 4);
}

// What it guards against: one after the other, the same machine makes the last of
// the four look slower by three times its rounds.
TEST(MeasureInterleaved, OneAfterTheOtherDriftLooksLikeADifference) {
  SlowingMachine machine;
  std::vector<double> medians;
  for (int contender = 0; contender < 4; ++contender) {
    std::vector<double> times;
    for (int round = 0; round < 25; ++round) times.push_back(machine.Sample());
    medians.push_back(Median(times));
  }
  EXPECT_EQ(medians[3] - medians[0], 75);
}

TEST(MeasureInterleaved, StartsAllThenWaitsThenReads) {
  std::string log;
  const std::vector<Contender> contenders = {{[&] { log += 's'; },
                                              [&] {
                                                log += 'r';
                                                return 1.0;
                                              }},
                                             {[&] { log += 's'; },
                                              [&] {
                                                log += 'r';
                                                return 2.0;
                                              }}};
  const auto times = MeasureInterleaved(contenders, 2, [&] { log += 'w'; });
  EXPECT_EQ(log, "sswrrsswrrsswrr");
  EXPECT_THAT(times, ElementsAre(ElementsAre(1, 1), ElementsAre(2, 2)));
}

TEST(MeasureInterleaved, TheFirstRoundIsDropped) {
  int samples = 0;
  const Contender slow_at_first = {[&] { ++samples; }, [&] { return samples == 1 ? 1e6 : 10.0; }};
  EXPECT_THAT(MeasureInterleaved({slow_at_first}, 3, [] {}), ElementsAre(ElementsAre(10, 10, 10)));
}

TEST(MeasureInterleaved, NothingToMeasure) {
  EXPECT_THAT(MeasureInterleaved({}, 3, [] {}), testing::IsEmpty());
}

TEST(Median, OddEvenAndNone) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Median({7}), 7);
  EXPECT_TRUE(std::isnan(Median({})));
}

TEST(Median, OneOutlierDoesNotMoveIt) {
  EXPECT_EQ(Median({10, 10, 1e9, 10, 10}), 10);
  EXPECT_EQ(Median({10, 10, 0, 10, 10}), 10);
}

TEST(FloorMicroseconds, TheLongerOfMovingAndComputing) {
  const Ceilings ceilings = {.bytes_per_second = 1e12, .flops_per_second = 1e15};
  EXPECT_DOUBLE_EQ(FloorMicroseconds(5e6, 1e9, ceilings), 5);    // memory: 5 us against 1
  EXPECT_DOUBLE_EQ(FloorMicroseconds(5e6, 20e9, ceilings), 20);  // arithmetic
}

}  // namespace
}  // namespace quant_suites
