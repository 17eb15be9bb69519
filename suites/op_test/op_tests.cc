#include "suites/op_test/op_tests.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <exception>
#include <iostream>

#include "gtest_determinism/assertions.h"
#include "gtest_determinism/configuration.h"
#include "gtest_determinism/explain.h"
#include "kernels/providers/op_library.h"
#include "suites/op_test/op_call.h"
#include "suites/op_test/perturbation_names.h"

namespace suites::op_test {
namespace {

using gtest_determinism::Options;
using gtest_determinism::Outcome;
using gtest_determinism::Report;

std::string FirstLineOf(const std::exception& error) {
  const auto* const torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// PyTorch's deterministic mode as the test asks for it, for as long as it runs.
class DeterministicMode {
 public:
  explicit DeterministicMode(bool on) { at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/true); }
  ~DeterministicMode() { at::globalContext().setDeterministicAlgorithms(enabled_, warn_only_); }
  DeterministicMode(const DeterministicMode&) = delete;
  DeterministicMode& operator=(const DeterministicMode&) = delete;

 private:
  const bool enabled_ = at::globalContext().deterministicAlgorithms();
  const bool warn_only_ = at::globalContext().deterministicAlgorithmsWarnOnly();
};

class OpDeterminism : public testing::Test {
 public:
  explicit OpDeterminism(const OpTest& test) : test_(test) {}

  void TestBody() override {
    try {
      const DeterministicMode mode(test_.deterministic_algorithms);
      const OpCall call(test_);
      RecordProperty("op", test_.op);
      RecordProperty("device", test_.device);
      if (const auto library = kernels::LibraryOfOperator(test_.op)) {
        RecordProperty("op_library", kernels::Describe(*library));
      }
      Check(call, OptionsOf());
    } catch (const std::exception& error) {
      ADD_FAILURE() << FirstLineOf(error);
    }
  }

 private:
  Options OptionsOf() const {
    Options options;
    options.runs = test_.runs;
    options.warmups = test_.warmups;
    if (test_.perturbations) {
      options.perturbations.emplace();
      for (const std::string& name : *test_.perturbations) {
        options.perturbations->push_back(MakePerturbation(name, test_.device));
      }
    }
    return options;
  }

  void Check(const OpCall& call, const Options& options) const {
    const auto operator_call = [&] {
      try {
        return call.Run();
      } catch (const c10::Error& error) {
        throw std::runtime_error(FirstLineOf(error));
      }
    };
    if (test_.expect == Expectation::kBitExact) {
      EXPECT_DETERMINISTIC_WITH(options, operator_call) << test_.op;
      return;
    }
    const Report report = gtest_determinism::Record(test_.op, gtest_determinism::RunRepeated(operator_call, options));
    if (!gtest_determinism::GetConfiguration().quiet) {
      std::cout << test_.op << ": " << gtest_determinism::Summarize(report) << '\n';
    }
    const bool compared = report.outcome == Outcome::kBitExact || report.outcome == Outcome::kNondeterministic;
    if (test_.expect == Expectation::kAny) {
      EXPECT_TRUE(compared) << test_.op << ": " << gtest_determinism::Summarize(report);
    } else {
      EXPECT_EQ(report.outcome, Outcome::kNondeterministic)
          << test_.op << " was expected to differ between runs: " << gtest_determinism::Summarize(report);
    }
  }

  const OpTest test_;
};

}  // namespace

void RegisterOpTests(const std::vector<OpTest>& tests) {
  for (const OpTest& test : tests) {
    testing::RegisterTest(test.suite.c_str(), test.name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [test]() -> testing::Test* { return new OpDeterminism(test); });
  }
}

}  // namespace suites::op_test
