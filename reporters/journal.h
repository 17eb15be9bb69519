// One line of JSON for each finished thing, on the disk before the next begins.
// What a killed run leaves behind.
#ifndef REPORTERS_JOURNAL_H_
#define REPORTERS_JOURNAL_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "reporters/run_record.h"
#include "reporters/verdict.h"

namespace reporters {

// DIR/run_{YYYYmmdd_HHMMSS}_{pid}.jsonl (JSON Lines; so named that "*.json"
// does not match it). The first line is a header, the last an end marker; each
// is appended with one write(2) and fsync'd. From one thread at a time.
class Journal {
 public:
  // Makes the folder where it is missing. Throws std::runtime_error, one line,
  // here and in every call that cannot write.
  Journal(const std::filesystem::path& directory, const Environment& environment);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void Started(std::string_view name);  // a variant or test that a kill may interrupt
  void Append(const VariantRecord& record, const Verdict& verdict, const std::filesystem::path& file);
  void Append(const TestRecord& test);
  void Append(const BenchmarkRecord& benchmark);
  void Finish(int exit_code);  // the end marker

 private:
  void Write(std::string line);
  std::filesystem::path path_;
  int fd_ = -1;
};

struct JournalEntry {
  std::string kind;    // "variant", "test", "benchmark"
  std::string name;    // "awq", "SplitK.RunToRun"
  std::string result;  // outcome or test result
  std::string file;    // of a variant
  std::string json;    // the whole line
};

struct JournalContents {
  bool complete = false;    // the end marker is there
  int exit_code = -1;       // of the end marker
  std::string interrupted;  // started and neither finished nor followed by the end marker
  std::vector<JournalEntry> entries;
  std::vector<std::string> problems;  // "line 4: not JSON (torn by a kill?)"
};
// Lines that cannot be read are problems, the others count. Throws
// std::runtime_error where the file cannot be opened or is no journal.
JournalContents ReadJournal(const std::filesystem::path& path);

}  // namespace reporters

#endif  // REPORTERS_JOURNAL_H_
