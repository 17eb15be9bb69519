// Four faults that EXPECT_EQ of two runs misses, each beside its sound twin: the
// check must catch the first and pass the second, or it proves nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "gtest_determinism/determinism.h"
#include "gtest_determinism/matchers.h"

namespace {

using gtest_determinism::IsBitExact;
using gtest_determinism::IsNondeterministic;
using gtest_determinism::Options;
using gtest_determinism::Outputs;
using gtest_determinism::RunRepeated;

constexpr int kThreads = 4;

void OnThreads(const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
}

// ---- 1. Partial sums that meet in the order in which threads arrive ----

// Magnitudes that differ, so that rounding shows the order.
float Term(int thread, int i) { return (thread % 2 == 0 ? 1e4f : 1e-3f) / static_cast<float>(i + 1 + thread); }

float AtomicSum() {
  constexpr int kTerms = 400;
  std::atomic<float> sum{0};
  std::atomic<int> ready{0};
  OnThreads([&](int thread) {
    // All begin together, as the blocks of a kernel do.
    ++ready;
    while (ready < kThreads) std::this_thread::yield();
    for (int i = 0; i < kTerms; ++i) {
      sum.fetch_add(Term(thread, i), std::memory_order_relaxed);
      if (i % 50 == 0) std::this_thread::yield();
    }
  });
  return sum;
}

float OrderedSum() {
  constexpr int kTerms = 400;
  std::vector<float> partial(kThreads);
  OnThreads([&](int thread) {
    for (int i = 0; i < kTerms; ++i) partial[thread] += Term(thread, i);
  });
  float sum = 0;
  for (const float p : partial) sum += p;
  return sum;
}

// Threads on one core mostly take turns in one order.
#define SKIP_ON_ONE_CORE() \
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "threads meet in varying order on 2 cores or more"

TEST(PlantedFaults, AtomicSumInArrivalOrder) {
  SKIP_ON_ONE_CORE();
  EXPECT_THAT(RunRepeated(AtomicSum, {.runs = 50}), IsNondeterministic());
  EXPECT_THAT(RunRepeated(OrderedSum, {.runs = 50}), IsBitExact());
}

// ---- 2. A buffer that is not set everywhere ----

TEST(PlantedFaults, UnsetElements) {
  const auto strided = [](Outputs& out, std::int64_t n) {
    const auto y = out.Buffer<float>("y", {100});
    for (std::int64_t i = 0; i < n; ++i) y[static_cast<std::size_t>(i)] = 1;
  };
  // The last, ragged tile is left out.
  const auto fault = RunRepeated([&](Outputs& out) { strided(out, 96); });
  EXPECT_THAT(fault, gtest_determinism::HasOutcome(gtest_determinism::Outcome::kError));
  EXPECT_THAT(fault.reason, testing::HasSubstr("element 96 of output 'y' was never written"));
  EXPECT_THAT(RunRepeated([&](Outputs& out) { strided(out, 100); }), IsBitExact());
}

// One thread clears the buffer while another fills it, without an order: the
// clearing may win. The accesses are atomic, so that only the order is at fault.
// They step aside at moments that the clock gives: on a busy machine both may share
// one core, where fixed moments would make them take turns in the same order always.
TEST(PlantedFaults, RaceOnTheClearingOfABuffer) {
  SKIP_ON_ONE_CORE();
  const auto race = [](bool ordered) {
    constexpr int kElements = 400;
    std::vector<std::atomic<int>> y(kElements);
    std::atomic<int> ready{0};
    const auto start_together = [&ready] {
      ++ready;
      while (ready < 2) std::this_thread::yield();
    };
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const int turn = 20 + static_cast<int>(std::chrono::nanoseconds(now).count() / 64 % 97);
    std::thread clear([&] {
      start_together();
      for (int i = 0; i < kElements; ++i) {
        y[static_cast<std::size_t>(i)] = -1;
        if (i % turn == 0) std::this_thread::yield();
      }
    });
    if (ordered) {
      ++ready;
      clear.join();
    }
    std::thread fill([&] {
      if (!ordered) start_together();
      for (int i = kElements; i-- > 0;) {
        y[static_cast<std::size_t>(i)] = i;
        if (i % turn == 0) std::this_thread::yield();
      }
    });
    if (clear.joinable()) clear.join();
    fill.join();
    return std::vector<int>(y.begin(), y.end());
  };
  EXPECT_THAT(RunRepeated([&] { return race(false); }, {.runs = 50}), IsNondeterministic());
  EXPECT_THAT(RunRepeated([&] { return race(true); }, {.runs = 50}), IsBitExact());
}

// ---- 3. and 4. Differences that == cannot see, or sees where there is none ----

TEST(PlantedFaults, NegativeZero) {
  int run = 0;
  const auto sign = [&run] { return ++run % 3 == 0 ? -0.0f : 0.0f; };
  EXPECT_EQ(0.0f, -0.0f) << "what EXPECT_EQ of two runs would say";
  EXPECT_THAT(RunRepeated(sign), IsNondeterministic());
  EXPECT_THAT(RunRepeated([] { return -0.0f; }), IsBitExact());
}

TEST(PlantedFaults, NanPayload) {
  std::uint32_t run = 0;
  const auto payload = [&run] { return std::vector<float>{std::bit_cast<float>(0x7fc00000u | run++)}; };
  EXPECT_THAT(RunRepeated(payload), IsNondeterministic());
  const auto same = [] { return std::vector<float>{std::bit_cast<float>(0x7fc00001u)}; };
  EXPECT_NE(same(), same()) << "a NaN never equals itself";
  EXPECT_THAT(RunRepeated(same), IsBitExact());
}

}  // namespace
