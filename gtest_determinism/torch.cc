#include "gtest_determinism/torch.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace gtest_determinism {
namespace {

[[noreturn]] void Refuse(std::string_view name, const std::string& what) {
  throw std::invalid_argument("tensor" + (name.empty() ? "" : " '" + std::string(name) + "'") + " " + what);
}

// The dtype of one element, with how many of it make one of the tensor's.
std::pair<DType, std::int64_t> DTypeOf(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kBool:
      return {DType::kBool, 1};
    case at::kChar:
      return {DType::kInt8, 1};
    case at::kByte:
      return {DType::kUInt8, 1};
    case at::kShort:
      return {DType::kInt16, 1};
    case at::kUInt16:
      return {DType::kUInt16, 1};
    case at::kInt:
      return {DType::kInt32, 1};
    case at::kUInt32:
      return {DType::kUInt32, 1};
    case at::kLong:
      return {DType::kInt64, 1};
    case at::kUInt64:
      return {DType::kUInt64, 1};
    case at::kHalf:
      return {DType::kFloat16, 1};
    case at::kBFloat16:
      return {DType::kBFloat16, 1};
    case at::kFloat:
      return {DType::kFloat32, 1};
    case at::kDouble:
      return {DType::kFloat64, 1};
    case at::kComplexHalf:
      return {DType::kFloat16, 2};
    case at::kComplexFloat:
      return {DType::kFloat32, 2};
    case at::kComplexDouble:
      return {DType::kFloat64, 2};
    default:
      return {DType::kBytes, static_cast<std::int64_t>(tensor.element_size())};
  }
}

}  // namespace

void AppendBits(Trace& trace, std::string_view name, const at::Tensor& tensor) {
  if (!tensor.defined()) Refuse(name, "is undefined");
  if (tensor.layout() != at::kStrided) Refuse(name, "is sparse: compare its indices and values");
  if (tensor.is_quantized()) Refuse(name, "is quantized: compare int_repr(), the scales and the zero points");
  if (!tensor.device().is_cpu()) {
    Refuse(name, "is on " + tensor.device().str() + ": this adapter reads CPU tensors only, copy it with .cpu()");
  }
  auto held = std::make_shared<at::Tensor>(tensor.detach().resolve_conj().resolve_neg().contiguous());
  const auto [dtype, words] = DTypeOf(*held);
  BitView view;
  view.data = held->const_data_ptr();
  view.bytes = held->nbytes();
  view.dtype = dtype;
  view.shape.assign(held->sizes().begin(), held->sizes().end());
  if (words > 1) view.shape.push_back(words);
  view.owner = std::move(held);
  trace.push_back({std::string(name), std::move(view)});
}

}  // namespace gtest_determinism
