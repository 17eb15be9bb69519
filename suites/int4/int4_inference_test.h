// One gtest for each variant: Quant/Int4Inference.IsReproducible/VARIANT.
#ifndef SUITES_INT4_INT4_INFERENCE_TEST_H_
#define SUITES_INT4_INT4_INFERENCE_TEST_H_

#include <memory>
#include <vector>

#include "reporters/console.h"
#include "reporters/journal.h"
#include "reporters/writers.h"
#include "suites/int4/run_variant.h"

namespace suites {

// What the tests of a process leave behind, in the order in which they ran.
// Kept here and not taken from GoogleTest's own result files: with
// --gtest_repeat those hold the last repetition only.
struct SuiteResults {
  std::vector<reporters::SummaryRow> rows;
  int unwritten = 0;  // results that could not be written
  // Made with the first variant, so that a killed run leaves word of what it
  // had finished.
  std::unique_ptr<reporters::Journal> journal;
};

// Registers the tests. Each runs its variant, derives the verdict, writes the
// result file and fails where the expectation was not met, and with
// --determinism_strict where there is any noise. The references must outlive
// RUN_ALL_TESTS().
void RegisterInt4InferenceTests(const std::vector<Variant>& variants, const RunContext& context,
                                reporters::ConsoleProgress& progress, SuiteResults& results);

}  // namespace suites

#endif  // SUITES_INT4_INT4_INFERENCE_TEST_H_
