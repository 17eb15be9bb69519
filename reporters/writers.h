// Writers: from a record and its verdict to text. They compute nothing.
#ifndef REPORTERS_WRITERS_H_
#define REPORTERS_WRITERS_H_

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "reporters/record.h"
#include "reporters/text.h"
#include "reporters/verdict.h"

namespace reporters {

// Of investigation.schema.json. Semantic versioning; docs/json.md has the rules.
inline constexpr char kSchemaVersion[] = "1.1.0";

// The investigation JSON, reporters/schema/investigation.schema.json; where
// `record.success` is false the failure JSON. Text that is not UTF-8 is
// repaired; NaN and infinity are null.
void WriteInvestigationJson(std::ostream& out, const VariantRecord& record, const Verdict& verdict);

// Writes DIR/{variant}_investigation_{YYYYmmdd_HHMMSS}.json, the time being
// `record.started_at` (else now), by CreateExclusively() of exclusive_file.h.
// Makes DIR where it is missing. Returns the path. Throws std::runtime_error,
// one line that names the folder and the reason, and leaves nothing behind.
std::filesystem::path WriteInvestigationFile(const std::filesystem::path& directory, const VariantRecord& record,
                                             const Verdict& verdict);

// One row a variant: variant, device, kernel, outcome, runs, bound, distinct,
// noise L2, time, file. Lines are at most 120 columns wide: where the file does
// not fit into its row it follows on a line of its own (a single long name or
// reason may be wider; a path is never cut).
struct SummaryRow {
  VariantRecord record;
  Verdict verdict;
  std::filesystem::path file;
};
void WriteSummaryTable(std::ostream& out, const std::vector<SummaryRow>& rows, const ConsoleStyle& style = {});

}  // namespace reporters

#endif  // REPORTERS_WRITERS_H_
