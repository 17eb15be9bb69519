#include "reporters/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "reporters/exclusive_file.h"
#include "reporters/json_text.h"
#include "reporters/text.h"
#include "reporters/writers.h"

namespace reporters {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "gtest_determinism.journal";

[[noreturn]] void Fail(const std::filesystem::path& path, const std::string& reason) {
  throw std::runtime_error("journal " + OneLine(path.string()) + ": " + reason);
}

Json ReportJson(const gtest_determinism::Report& report) {
  return {{"outcome", NameOf(report.outcome)},
          {"reason", report.reason},
          {"property", report.property},
          {"runs", report.runs},
          {"inputs", report.inputs},
          {"distinct", report.patterns.size()},
          {"comparisons", report.power.comparisons},
          {"deviations", report.power.deviations},
          {"upper_bound", report.power.upper_bound}};
}

std::string StringAt(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

Journal::Journal(const std::filesystem::path& directory, const Environment& environment) {
  const std::string now = IsoTimeNow();
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) Fail(directory, error.message());
  const std::string stem = "run_" + CompactTime(now) + "_" + std::to_string(getpid());
  for (int n = 1; fd_ < 0; ++n) {
    std::string name = stem;
    if (n > 1) name.append("_").append(std::to_string(n));
    path_ = directory / name.append(".jsonl");
    fd_ = open(path_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) Fail(path_, std::strerror(errno));
  }
  Json values = Json::object();
  for (const auto& [name, value] : environment.values) values[name] = value;
  Write(CompactJson({{"kind", "header"},
                     {"format", kFormat},
                     {"schema_version", kSchemaVersion},
                     {"started_at", now},
                     {"pid", getpid()},
                     {"argv", environment.argv},
                     {"environment", values}}));
}

Journal::~Journal() {
  if (fd_ >= 0) close(fd_);
}

void Journal::Started(std::string_view name) {
  Write(CompactJson({{"kind", "started"}, {"name", name}, {"time", IsoTimeNow()}}));
}

void Journal::Append(const VariantRecord& record, const Verdict& verdict, const std::filesystem::path& file) {
  Write(CompactJson({{"kind", "variant"},
                     {"name", record.variant},
                     {"result", NameOf(verdict.outcome)},
                     {"file", file.string()},
                     {"success", record.success},
                     {"error", record.error},
                     {"met_expectation", verdict.met_expectation},
                     {"expectation", verdict.expectation},
                     {"rule", verdict.rule},
                     {"report", ReportJson(record.baseline.report)},
                     {"seconds", record.cost.total_seconds},
                     {"time", IsoTimeNow()}}));
}

void Journal::Append(const TestRecord& test) {
  Json assertions = Json::array();
  for (const gtest_determinism::PublishedReport& assertion : test.assertions) {
    Json json = ReportJson(assertion.report);
    json["assertion"] = assertion.assertion;
    json["passed"] = assertion.passed ? Json(*assertion.passed) : Json(nullptr);
    json["expression"] = assertion.expression;
    json["location"] = assertion.file + ":" + std::to_string(assertion.line);
    assertions.push_back(json);
  }
  Json properties = Json::object();
  for (const auto& [key, value] : test.properties) properties[key] = value;
  Write(CompactJson({{"kind", "test"},
                     {"name", test.suite + "." + test.name},
                     {"result", NameOf(test.result)},
                     {"iteration", test.iteration},
                     {"seconds", test.seconds},
                     {"skip_reasons", test.skip_reasons},
                     {"failures", test.failures},
                     {"properties", properties},
                     {"assertions", assertions},
                     {"time", IsoTimeNow()}}));
}

void Journal::Append(const BenchmarkRecord& benchmark) {
  Write(CompactJson({{"kind", "benchmark"},
                     {"name", benchmark.name},
                     {"result", benchmark.error.empty() ? "ok" : "error"},
                     {"error", benchmark.error},
                     {"aggregate", benchmark.aggregate},
                     {"iterations", benchmark.iterations},
                     {"real_time_ns", benchmark.real_time_ns},
                     {"cpu_time_ns", benchmark.cpu_time_ns},
                     {"counters", benchmark.counters},
                     {"time", IsoTimeNow()}}));
}

void Journal::Finish(int exit_code) {
  Write(CompactJson({{"kind", "end"}, {"exit_code", exit_code}, {"time", IsoTimeNow()}}));
}

void Journal::Write(std::string line) {
  line += '\n';
  // One write, so that a line of another process that appends here too is not
  // split; what a full disk leaves of it is a torn line, which the reader names.
  ssize_t written;
  do {
    written = write(fd_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) Fail(path_, std::strerror(errno));
  if (static_cast<std::size_t>(written) != line.size())
    Fail(path_, "only part of a line was written; is the disk full?");
  if (fsync(fd_) != 0) Fail(path_, std::strerror(errno));
}

JournalContents ReadJournal(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Fail(path, std::strerror(errno));
  JournalContents contents;
  int number = 0;
  bool header = false;
  for (std::string line; std::getline(in, line);) {
    ++number;
    Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded() || !json.is_object()) {
      contents.problems.push_back("line " + std::to_string(number) + ": not a JSON object (torn by a kill?)");
      continue;
    }
    const std::string kind = StringAt(json, "kind");
    if (number == 1) header = kind == "header" && StringAt(json, "format") == kFormat;
    if (!header) break;
    if (kind == "started") {
      contents.interrupted = StringAt(json, "name");
    } else if (kind == "end") {
      const auto code = json.find("exit_code");
      if (code != json.end() && code->is_number_integer()) contents.exit_code = code->get<int>();
      contents.complete = true;
      contents.interrupted.clear();
    } else if (kind == "variant" || kind == "test" || kind == "benchmark") {
      JournalEntry entry = {kind, StringAt(json, "name"), StringAt(json, "result"), StringAt(json, "file"), line};
      if (entry.name == contents.interrupted) contents.interrupted.clear();
      contents.entries.push_back(std::move(entry));
    }
  }
  if (!header) Fail(path, "not a journal of this program (no header line)");
  return contents;
}

}  // namespace reporters
