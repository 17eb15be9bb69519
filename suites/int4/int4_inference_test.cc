#include "suites/int4/int4_inference_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string>

#include "gtest_determinism/configuration.h"
#include "reporters/environment.h"
#include "reporters/verdict.h"

namespace suites {
namespace {

class Int4Inference : public testing::Test {
 public:
  Int4Inference(const Variant& variant, int index, const RunContext& context, reporters::ConsoleProgress& progress,
                SuiteResults& results)
      : variant_(variant), index_(index), context_(context), progress_(progress), results_(results) {}

  void TestBody() override {
    progress_.Start(variant_.id, index_, testing::UnitTest::GetInstance()->test_to_run_count());
    Note([&](reporters::Journal& journal) { journal.Started(variant_.id); });
    reporters::SummaryRow row;
    VariantResult result = RunVariant(variant_, context_);
    row.record = std::move(result.record);
    row.verdict = reporters::DeriveVerdict(row.record);
    progress_.Finish(std::string(gtest_determinism::NameOf(row.verdict.outcome)),
                     row.verdict.met_expectation ? reporters::Color::kGreen : reporters::Color::kRed);
    Publish(row);
    for (const std::string& problem : result.problems) ADD_FAILURE() << variant_.id << ": " << problem;
    const bool strict = gtest_determinism::GetConfiguration().strict;
    if (!row.record.success) {
      ADD_FAILURE() << variant_.id << ": " << row.record.error;
    } else {
      EXPECT_TRUE(row.verdict.met_expectation) << variant_.id << ": " << row.verdict.expectation;
      EXPECT_FALSE(strict && row.verdict.outcome == gtest_determinism::Outcome::kNondeterministic)
          << variant_.id << ": " << row.verdict.summary << ", and --determinism_strict allows no noise";
    }
    results_.rows.push_back(std::move(row));
  }

 private:
  // A journal that cannot be written does not stop a run; that it could not is
  // said, and fails the test.
  template <class F>
  void Note(F note) {
    try {
      if (!results_.journal) {
        results_.journal = std::make_unique<reporters::Journal>(context_.options.output_dir,
                                                                reporters::CollectEnvironment(context_.argv));
      }
      note(*results_.journal);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }

  void Publish(reporters::SummaryRow& row) {
    try {
      row.file = reporters::WriteInvestigationFile(context_.options.output_dir, row.record, row.verdict);
    } catch (const std::exception& error) {
      ++results_.unwritten;
      ADD_FAILURE() << variant_.id << ": " << error.what();
    }
    const auto& report = row.record.baseline.report;
    Note([&](reporters::Journal& journal) { journal.Append(row.record, row.verdict, row.file); });
    RecordProperty("determinism_outcome", std::string(gtest_determinism::NameOf(row.verdict.outcome)));
    RecordProperty("determinism_runs", report.runs);
    RecordProperty("determinism_distinct", static_cast<int>(report.patterns.size()));
    RecordProperty("determinism_rate_upper_bound", std::to_string(report.power.upper_bound));
    RecordProperty("determinism_file", row.file.string());
  }

  const Variant variant_;
  const int index_;
  const RunContext& context_;
  reporters::ConsoleProgress& progress_;
  SuiteResults& results_;
};

}  // namespace

void RegisterInt4InferenceTests(const std::vector<Variant>& variants, const RunContext& context,
                                reporters::ConsoleProgress& progress, SuiteResults& results) {
  for (const Variant& variant : variants) {
    // Registered by hand, under the name that INSTANTIATE_TEST_SUITE_P would
    // give: its generators run before the table's file name is known.
    testing::RegisterTest("Quant/Int4Inference", ("IsReproducible/" + variant.id).c_str(), nullptr, nullptr, __FILE__,
                          __LINE__, [variant, &context, &progress, &results]() -> testing::Test* {
                            const int count = testing::UnitTest::GetInstance()->test_to_run_count();
                            const int index = static_cast<int>(results.rows.size()) % std::max(1, count) + 1;
                            return new Int4Inference(variant, index, context, progress, results);
                          });
  }
}

}  // namespace suites
