#include "suites/benchmarks/interleaved.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

namespace quant_suites {

std::vector<std::vector<std::size_t>> RoundOrders(std::size_t contenders, int rounds, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<std::size_t>> orders;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::size_t> order(contenders);
    std::iota(order.begin(), order.end(), std::size_t{0});
    // Not std::shuffle, whose result is the library's own.
    for (std::size_t i = contenders; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    orders.push_back(std::move(order));
  }
  return orders;
}

std::vector<std::vector<double>> MeasureInterleaved(const std::vector<Contender>& contenders, int rounds,
                                                    const std::function<void()>& wait) {
  std::vector<std::vector<double>> times(contenders.size());
  bool warm = false;
  for (const std::vector<std::size_t>& order : RoundOrders(contenders.size(), rounds + 1)) {
    for (const std::size_t i : order) contenders[i].start();
    wait();
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const double us = contenders[i].microseconds();
      if (warm) times[i].push_back(us);
    }
    warm = true;
  }
  return times;
}

double Median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double FloorMicroseconds(double bytes, double flops, const Ceilings& ceilings) {
  return 1e6 * std::max(bytes / ceilings.bytes_per_second, flops / ceilings.flops_per_second);
}

}  // namespace quant_suites
