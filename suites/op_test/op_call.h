// A described operator with its arguments, ready to be called again and again.
#ifndef SUITES_OP_TEST_OP_CALL_H_
#define SUITES_OP_TEST_OP_CALL_H_

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest_determinism/bits.h"
#include "suites/op_test/description.h"

namespace suites::op_test {

// What one call gave, by name: "result" or "results[1]", "q_weight" for an
// argument that the operator wrote to.
struct OpResults {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
};
void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const OpResults& results);

class OpCall {
 public:
  // Finds the operator and makes its arguments on the test's device. Throws
  // DescriptionError, or std::exception with the text of what failed: one line.
  explicit OpCall(const OpTest& test);

  // Calls the operator through the dispatcher. Arguments that its schema says it
  // writes to are given as fresh copies.
  OpResults Run() const;

 private:
  c10::OperatorHandle op_;
  torch::jit::Stack arguments_;
  std::vector<std::size_t> written_;  // indices of arguments
  // What is compared: results by index, then arguments by index.
  std::vector<std::size_t> compared_results_, compared_arguments_;
};

}  // namespace suites::op_test

#endif  // SUITES_OP_TEST_OP_CALL_H_
