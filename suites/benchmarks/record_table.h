// The table of what Google Benchmark itself ran: the CPU's suites.
#ifndef SUITES_BENCHMARKS_RECORD_TABLE_H_
#define SUITES_BENCHMARKS_RECORD_TABLE_H_

#include <string>

#include "reporters/run_record.h"
#include "suites/benchmarks/comparison_table.h"

namespace quant_suites {

// Medians, or single runs where there are no aggregates, of the benchmarks named
// PREFIX/ROW/ARGUMENT:NUMBER/PROVIDER or PREFIX/ROW/PROVIDER/ARGUMENT:NUMBER, with
// the counter "patterns" and the floor of the counter "floor_us". Others are left
// out; one that failed is an error.
ComparisonTable TableOfRecord(const reporters::RunRecord& record, const std::string& prefix);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_RECORD_TABLE_H_
