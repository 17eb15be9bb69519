#include "suites/op_test/op_call.h"

#include <ATen/ops/scalar_tensor.h>

#include "gtest_determinism/has_bits.h"
#include "gtest_determinism/torch.h"
#include "kernels/providers/op_library.h"
#include "kernels/torch_cuda.h"
#include "suites/op_test/values.h"

namespace suites::op_test {
namespace {

at::Device DeviceOf(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  return {at::kCUDA, static_cast<c10::DeviceIndex>(kernels::CudaDeviceIndex(name))};
}

void Append(OpResults& results, const std::string& name, const c10::IValue& value) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) results.tensors.emplace_back(name, value.toTensor());
  } else if (value.isScalar()) {
    const auto type = value.isInt() ? at::kLong : value.isBool() ? at::kBool : at::kDouble;
    results.tensors.emplace_back(name, at::scalar_tensor(value.toScalar(), at::TensorOptions().dtype(type)));
  } else if (value.isList()) {
    const c10::List<c10::IValue> list = value.toList();
    for (std::size_t i = 0; i < list.size(); ++i) Append(results, name + "[" + std::to_string(i) + "]", list.get(i));
  }
}

}  // namespace

void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const OpResults& results) {
  for (const auto& [part, tensor] : results.tensors) {
    gtest_determinism::AppendBits(trace, gtest_determinism::JoinName(name, part), tensor);
  }
}

OpCall::OpCall(const OpTest& test) : op_(kernels::FindOperator(test.op, test.overload)) {
  const c10::FunctionSchema& schema = op_.schema();
  Values values(test.values, DeviceOf(test.device));
  arguments_ = values.ArgumentsFor(schema, test.arguments);
  for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::AliasInfo* const alias = schema.arguments()[i].alias_info();
    if (alias != nullptr && alias->isWrite() && arguments_[i].isTensor()) written_.push_back(i);
  }
  if (test.compare.json().is_null()) {
    for (std::size_t i = 0; i < schema.returns().size(); ++i) compared_results_.push_back(i);
    // One that is returned too need not be compared twice.
    if (compared_results_.empty()) compared_arguments_ = written_;
    return;
  }
  for (std::size_t i = 0; i < test.compare.ListSize(); ++i) {
    const Node entry = test.compare.At(i);
    if (entry.json().is_string()) {
      compared_arguments_.push_back(WrittenArgument(schema, entry));
    } else {
      compared_results_.push_back(ResultIndex(schema, entry));
    }
  }
}

OpResults OpCall::Run() const {
  torch::jit::Stack stack = arguments_;
  for (const std::size_t i : written_) stack[i] = stack[i].toTensor().clone();
  std::vector<c10::IValue> written;
  for (const std::size_t i : compared_arguments_) written.push_back(stack[i]);
  op_.callBoxed(stack);
  OpResults results;
  for (const std::size_t i : compared_results_) {
    Append(results, stack.size() == 1 ? "result" : "results[" + std::to_string(i) + "]", stack[i]);
  }
  for (std::size_t i = 0; i < written.size(); ++i) {
    Append(results, op_.schema().arguments()[compared_arguments_[i]].name(), written[i]);
  }
  return results;
}

}  // namespace suites::op_test
