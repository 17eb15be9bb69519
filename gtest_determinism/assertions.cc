#include "gtest_determinism/assertions.h"

#include <cstdio>
#include <exception>

#include "gtest_determinism/compare.h"
#include "gtest_determinism/configuration.h"
#include "gtest_determinism/explain.h"
#include "gtest_determinism/internal/googletest_adaptor.h"

namespace gtest_determinism {
namespace internal {
namespace {

void SkipTest(const std::string& reason) { GTEST_SKIP() << reason; }

// A value of the environment that cannot be read is already the Report's error.
bool Quiet() {
  try {
    return GetConfiguration().quiet;
  } catch (const std::exception&) {
    return true;
  }
}

std::string Rerun(int runs, std::uint64_t seed) {
  try {
    return RerunCommand(runs, seed);
  } catch (const std::exception&) {
    return "";
  }
}

}  // namespace

testing::AssertionResult IsDeterministic(const Site& site, const MakeReport& make, const Options& options) {
  PublishedReport published;
  published.assertion = site.assertion;
  published.expression = site.expression;
  published.file = site.file;
  published.line = site.line;
  published.report = make(options);
  const Report& report = published.report;
  published.passed = report.outcome == Outcome::kBitExact || report.outcome == Outcome::kSkipped;
  PublishReport(published);

  const std::string expression = Abbreviate(site.expression);
  switch (report.outcome) {
    case Outcome::kBitExact: {
      const std::string text = Summarize(report);
      if (!Quiet()) {
        std::printf("[ BITEXACT ] %s: %s\n", expression.c_str(), text.c_str());
        std::fflush(stdout);
      }
      return testing::AssertionSuccess() << text;
    }
    case Outcome::kSkipped:
      if (!testing::Test::IsSkipped()) SkipTest(report.reason);
      return testing::AssertionSuccess() << Summarize(report);
    default:
      return testing::AssertionFailure() << ExplainFailure(report, expression,
                                                           Rerun(report.requested_runs, report.seed));
  }
}

testing::AssertionResult IsBitExactTo(const char* actual_text, const char* expected_text, const Trace& actual,
                                      const Trace& expected) {
  const auto failure = [&](const std::string& what) {
    const std::string rerun = Rerun(0, 0);
    return testing::AssertionFailure() << "Expected: " << Abbreviate(actual_text) << " has the bits of "
                                       << Abbreviate(expected_text) << "\n  Actual: " << what
                                       << (rerun.empty() ? "" : "\n  Re-run: " + rerun);
  };
  if (const std::optional<Divergence> divergence = CompareTraces(expected, actual)) {
    return failure(Describe(*divergence));
  }
  std::int64_t elements = 0;
  for (const NamedBits& part : expected) {
    elements += static_cast<std::int64_t>(part.view.bytes / SizeOf(part.view.dtype));
  }
  if (elements == 0) return failure("both are empty, so nothing was compared");
  return testing::AssertionSuccess() << "all " << elements << " elements have equal bits";
}

}  // namespace internal

Report Record(std::string_view name, Report report, std::source_location where) {
  PublishedReport published;
  published.expression = name;
  published.file = where.file_name();
  published.line = static_cast<int>(where.line());
  published.report = report;
  internal::PublishReport(std::move(published));
  return report;
}

}  // namespace gtest_determinism
