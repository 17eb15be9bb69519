#include "suites/checkpoint/tensor_view.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstring>
#include <string_view>

#include "suites/checkpoint/json_file.h"

namespace suites {
namespace {

at::ScalarType TypeOf(const std::string& name, std::string_view dtype) {
  struct Entry {
    std::string_view name;
    at::ScalarType type;
  };
  constexpr Entry kTypes[] = {
      {"F16", at::kHalf},  {"BF16", at::kBFloat16}, {"F32", at::kFloat}, {"F64", at::kDouble}, {"I8", at::kChar},
      {"I16", at::kShort}, {"I32", at::kInt},       {"I64", at::kLong},  {"U8", at::kByte},    {"BOOL", at::kBool},
  };
  for (const Entry& entry : kTypes) {
    if (entry.name == dtype) return entry.type;
  }
  throw CheckpointError("tensor " + Quoted(name) + ": dtype " + Quoted(dtype) + " is not read");
}

}  // namespace

at::Tensor TensorView(const std::string& name, const StoredTensor& stored) {
  const at::ScalarType type = TypeOf(name, stored.dtype);
  const auto alignment = static_cast<std::uintptr_t>(c10::elementSize(type));
  if (stored.data.empty() || reinterpret_cast<std::uintptr_t>(stored.data.data()) % alignment != 0) {
    at::Tensor copy = at::empty(stored.shape, at::TensorOptions().dtype(type));
    if (!stored.data.empty()) std::memcpy(copy.mutable_data_ptr(), stored.data.data(), stored.data.size());
    return copy;
  }
  void* data = const_cast<std::byte*>(stored.data.data());
  return at::from_blob(
      data, stored.shape, [owner = stored.owner](void*) {}, at::TensorOptions().dtype(type));
}

}  // namespace suites
