// Writers: from a record and its verdict to text. They compute nothing.
#ifndef REPORTERS_WRITERS_H_
#define REPORTERS_WRITERS_H_

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "reporters/record.h"
#include "reporters/verdict.h"

namespace reporters {

// The investigation JSON, reporters/schema/investigation.schema.json.
void WriteInvestigationJson(std::ostream& out, const VariantRecord& record, const Verdict& verdict);

// Writes DIR/{variant}_investigation_{YYYYmmdd_HHMMSS}.json under a temporary
// name, fsyncs it and links it to a name that was not there (_2, _3 on a
// collision). Returns the path. Throws std::runtime_error, one line that names
// the folder and the reason, and leaves nothing behind.
std::filesystem::path WriteInvestigationFile(const std::filesystem::path& directory, const VariantRecord& record,
                                             const Verdict& verdict);

// One row a variant: variant, device, kernel, outcome, runs, bound, distinct,
// noise L2, time, file.
struct SummaryRow {
  VariantRecord record;
  Verdict verdict;
  std::filesystem::path file;
};
void WriteSummaryTable(std::ostream& out, const std::vector<SummaryRow>& rows);

}  // namespace reporters

#endif  // REPORTERS_WRITERS_H_
