#include "suites/benchmarks/record_table.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>
#include <vector>

namespace quant_suites {
namespace {

struct Name {
  std::string row, provider;
  std::int64_t number = 0;
  bool known = false;
};

Name Parse(std::string text, const std::string& aggregate, const std::string& prefix) {
  if (!aggregate.empty() && text.ends_with("_" + aggregate)) text.resize(text.size() - aggregate.size() - 1);
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, '/');) parts.push_back(part);
  Name name;
  if (parts.size() < 4 || parts[0] != prefix) return name;
  name.row = parts[1];
  // The other two in either order; what follows are Google Benchmark's own words.
  const std::size_t argument = parts[2].find(':') != std::string::npos ? 2 : 3;
  name.provider = parts[5 - argument];
  const std::string& number = parts[argument];
  const std::size_t colon = number.find(':');
  if (colon == std::string::npos) return name;
  const char* const end = number.data() + number.size();
  name.known = std::from_chars(number.data() + colon + 1, end, name.number).ptr == end;
  return name;
}

}  // namespace

ComparisonTable TableOfRecord(const reporters::RunRecord& record, const std::string& prefix) {
  ComparisonTable table;
  std::map<std::pair<std::string, std::int64_t>, ComparisonRow> rows;
  std::vector<std::pair<std::string, std::int64_t>> order;
  const bool aggregates = std::any_of(record.benchmarks.begin(), record.benchmarks.end(),
                                      [](const auto& benchmark) { return benchmark.aggregate == "median"; });
  for (const reporters::BenchmarkRecord& benchmark : record.benchmarks) {
    const bool failed = !benchmark.error.empty();
    if (!failed && benchmark.aggregate != (aggregates ? "median" : "")) continue;
    const Name name = Parse(benchmark.name, benchmark.aggregate, prefix);
    if (!name.known) continue;
    const auto key = std::make_pair(name.row, name.number);
    auto [row, added] = rows.try_emplace(key);
    if (added) order.push_back(key);
    row->second.name = name.row;
    row->second.rows = name.number;
    auto& cells = row->second.cells;
    auto cell = std::find_if(cells.begin(), cells.end(), [&](const auto& c) { return c.provider == name.provider; });
    if (cell == cells.end()) {
      cell = cells.emplace(cells.end());
      cell->provider = name.provider;
    }
    if (failed) {
      cell->error = benchmark.error;
      continue;
    }
    cell->us.push_back(benchmark.real_time_ns * 1e-3);
    const auto patterns = benchmark.counters.find("patterns");
    if (patterns != benchmark.counters.end()) cell->patterns = static_cast<int>(patterns->second);
    const auto floor = benchmark.counters.find("floor_us");
    if (floor != benchmark.counters.end()) row->second.floor_us = floor->second;
    table.rounds = std::max(table.rounds, static_cast<int>(aggregates ? benchmark.iterations : cell->us.size()));
  }
  // Layers by rows; random interleaving may report them in any order.
  std::sort(order.begin(), order.end());
  for (const auto& key : order) {
    ComparisonRow& row = rows[key];
    std::sort(row.cells.begin(), row.cells.end(), [](const auto& a, const auto& b) { return a.provider < b.provider; });
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace quant_suites
