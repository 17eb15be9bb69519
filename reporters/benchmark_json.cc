#include <ostream>

#include "reporters/benchmark_collector.h"
#include "reporters/json_text.h"
#include "reporters/writers.h"

namespace reporters {

void WriteBenchmarkJson(std::ostream& out, const RunRecord& record) {
  using Json = nlohmann::ordered_json;
  Json environment = Json::object();
  for (const auto& [name, value] : record.environment.values) environment[name] = value;
  environment["argv"] = record.environment.argv;
  environment["variables"] = record.environment.variables;
  Json benchmarks = Json::array();
  for (const BenchmarkRecord& benchmark : record.benchmarks) {
    benchmarks.push_back({{"name", benchmark.name},
                          {"label", benchmark.label},
                          {"aggregate", benchmark.aggregate.empty() ? Json(nullptr) : Json(benchmark.aggregate)},
                          {"iterations", benchmark.iterations},
                          {"repetition", benchmark.repetition},
                          {"real_time_ns", benchmark.real_time_ns},
                          {"cpu_time_ns", benchmark.cpu_time_ns},
                          {"counters", Json(benchmark.counters)},
                          {"error", benchmark.error.empty() ? Json(nullptr) : Json(benchmark.error)}});
  }
  out << PrettyJson({{"schema_version", kSchemaVersion},
                     {"experiment", "benchmark"},
                     {"timestamp", record.started_at},
                     {"complete", record.complete},
                     {"environment", environment},
                     {"benchmarks", benchmarks}})
      << '\n';
}

}  // namespace reporters
