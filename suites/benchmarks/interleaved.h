// Times of several things that are to be compared: taken by turns, in rounds, so
// that what else happens to the machine falls on all of them alike. Knows neither
// torch nor a device.
#ifndef SUITES_BENCHMARKS_INTERLEAVED_H_
#define SUITES_BENCHMARKS_INTERLEAVED_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace quant_suites {

struct Contender {
  // Starts one sample; need not wait for it. Called once in each round.
  std::function<void()> start;
  // The time of the sample started last, in microseconds. Called when the whole
  // round has been waited for.
  std::function<double()> microseconds;
};

// For each round the contenders in the order of their turns: each once, in an
// order that is drawn anew for each round, so that none always follows the same
// other. The same for the same arguments everywhere.
std::vector<std::vector<std::size_t>> RoundOrders(std::size_t contenders, int rounds, std::uint64_t seed = 1);

// Times by contender and round. One round more runs first and is dropped. In each
// round: every start(), then `wait`, then every microseconds(). What they throw
// goes through.
std::vector<std::vector<double>> MeasureInterleaved(const std::vector<Contender>& contenders, int rounds,
                                                    const std::function<void()>& wait);

// The middle one, or the mean of the two in the middle. NaN for none.
double Median(std::vector<double> values);

// What the device can do at most, measured in the same run.
struct Ceilings {
  double bytes_per_second = 0;  // of a large read
  double flops_per_second = 0;  // of a large matmul
  // Of a kernel that does nothing, in a graph behind others of its kind; no part of
  // the floor. 0 where it was not measured.
  double empty_kernel_us = 0;
};

// The least time that so many bytes and operations take: the longer of the two.
double FloorMicroseconds(double bytes, double flops, const Ceilings& ceilings);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_INTERLEAVED_H_
