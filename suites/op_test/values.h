// Named values of a description: tensors, quantized weights and what packing
// operators make of them, each made once, when it is first asked for.
#ifndef SUITES_OP_TEST_VALUES_H_
#define SUITES_OP_TEST_VALUES_H_

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>

#include <map>
#include <set>
#include <string>

#include "suites/op_test/description.h"
#include "suites/op_test/quantized_weight.h"

namespace suites::op_test {

class Values {
 public:
  // `table`: the description's "values", or null.
  Values(Node table, at::Device device) : table_(std::move(table)), device_(device) {}

  // Arguments for an operator, in its schema's order, from a list or an object
  // by names; what is not given takes the schema's default. Throws
  // DescriptionError where they do not fit.
  torch::jit::Stack ArgumentsFor(const c10::FunctionSchema& schema, const Node& arguments);

 private:
  c10::IValue Convert(const c10::Argument& argument, const c10::Type& type, const c10::Type& real_type,
                      const Node& node);
  at::Tensor TensorOf(const Node& node);
  at::Tensor Named(const Node& user, const std::string& name);
  const Weight& WeightNamed(const Node& user, const std::string& name);
  at::Tensor Make(const Node& node);
  at::Tensor Packed(const Node& node);

  Node table_;
  at::Device device_;
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, Weight> weights_;
  std::set<std::string> in_making_;  // to find a value that needs itself
};

// "result" of one, "results[i]" of several. Throws DescriptionError at `node`
// where the index or the argument's name is not of the schema.
std::size_t ResultIndex(const c10::FunctionSchema& schema, const Node& node);
std::size_t WrittenArgument(const c10::FunctionSchema& schema, const Node& node);

// "aten::mm(Tensor self, Tensor mat2) -> Tensor"
std::string TextOf(const c10::FunctionSchema& schema);

}  // namespace suites::op_test

#endif  // SUITES_OP_TEST_VALUES_H_
