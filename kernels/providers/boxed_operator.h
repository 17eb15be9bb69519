// A foreign operator called by name, with its arguments in a list.
#ifndef KERNELS_PROVIDERS_BOXED_OPERATOR_H_
#define KERNELS_PROVIDERS_BOXED_OPERATOR_H_

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>
#include <vector>

namespace kernels::internal {

class BoxedOperator {
 public:
  // `arguments`: the names that the operator's schema must list, in order.
  // Throws std::invalid_argument, one line: there is no such operator, or it
  // takes other arguments (with its schema and the library that has it).
  BoxedOperator(const std::string& op, const std::vector<std::string>& arguments);

  // Calls it through the dispatcher, where at::RecordFunction sees it. Returns
  // its results; what it throws is c10::Error.
  torch::jit::Stack operator()(torch::jit::Stack arguments) const {
    op_.callBoxed(arguments);
    return arguments;
  }

 private:
  c10::OperatorHandle op_;
};

}  // namespace kernels::internal

#endif  // KERNELS_PROVIDERS_BOXED_OPERATOR_H_
