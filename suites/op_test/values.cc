#include "suites/op_test/values.h"

#include <ATen/core/jit_type.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/providers/op_library.h"

namespace suites::op_test {
namespace {

struct NamedType {
  std::string_view name;
  at::ScalarType type;
};
constexpr NamedType kTypes[] = {
    {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}, {"float32", at::kFloat}, {"float64", at::kDouble},
    {"int8", at::kChar},    {"uint8", at::kByte},        {"int16", at::kShort},   {"int32", at::kInt},
    {"int64", at::kLong},   {"bool", at::kBool},
};

at::ScalarType TypeAt(const Node& node) {
  std::vector<std::string_view> names;
  for (const NamedType& entry : kTypes) names.push_back(entry.name);
  const std::string name = node.OneOf(names);
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](const NamedType& t) { return t.name == name; })->type;
}

std::vector<std::int64_t> ShapeAt(const Node& node) {
  std::vector<std::int64_t> shape;
  std::int64_t elements = 1;
  for (std::size_t i = 0; i < node.ListSize(); ++i) {
    shape.push_back(node.At(i).Integer(0, std::int64_t{1} << 40));
    constexpr std::int64_t kMost = std::int64_t{1} << 34;
    if (shape.back() > 0 && elements > kMost / shape.back()) node.Fail("has more than 2^34 elements");
    elements *= shape.back();
  }
  return shape;
}

double NumberOr(const Node& node, std::string_view key, double otherwise) {
  return node.Has(key) ? node.At(key).Number() : otherwise;
}

at::Tensor RandomTensor(const Node& node) {
  const std::string kind = node.At("random").OneOf({"normal", "uniform", "integers"});
  if (kind == "normal") node.ExpectKeys({"random", "shape", "dtype", "seed", "mean", "deviation"});
  if (kind != "normal") node.ExpectKeys({"random", "shape", "dtype", "seed", "low", "high"});
  Random random(static_cast<std::uint64_t>(node.At("seed").Integer(0, INT64_MAX)));
  at::Tensor values = at::empty(ShapeAt(node.At("shape")), at::kDouble);
  double* const to = values.mutable_data_ptr<double>();
  const std::int64_t count = values.numel();
  if (kind == "normal") {
    const double mean = NumberOr(node, "mean", 0), deviation = NumberOr(node, "deviation", 1);
    for (std::int64_t i = 0; i < count; ++i) to[i] = mean + deviation * random.Normal();
  } else if (kind == "uniform") {
    const double low = NumberOr(node, "low", -1), high = NumberOr(node, "high", 1);
    for (std::int64_t i = 0; i < count; ++i) to[i] = random.Uniform(low, high);
  } else {
    constexpr std::int64_t kLimit = std::int64_t{1} << 31;
    const std::int64_t low = node.At("low").Integer(-kLimit, kLimit - 1), high = node.At("high").Integer(low, kLimit);
    if (high == low) node.At("high").Fail("must be greater than \"low\": integers are drawn from low to high - 1");
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] =
          static_cast<double>(low + static_cast<std::int64_t>(random.Below(static_cast<std::uint64_t>(high - low))));
    }
  }
  return values.to(TypeAt(node.At("dtype")));
}

// The operator's name and overload as one word: "aten::sum.dim_IntList".
std::pair<std::string, std::string> SplitOverload(const std::string& word) {
  const std::size_t dot = word.find('.');
  return dot == std::string::npos ? std::pair(word, std::string())
                                  : std::pair(word.substr(0, dot), word.substr(dot + 1));
}

bool IsWritten(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

}  // namespace

std::string TextOf(const c10::FunctionSchema& schema) {
  std::ostringstream text;
  text << schema;
  return text.str();
}

std::size_t ResultIndex(const c10::FunctionSchema& schema, const Node& node) {
  const std::int64_t index = node.Integer(0, 1 << 20);
  if (static_cast<std::size_t>(index) >= schema.returns().size()) {
    node.Fail("there is no result " + std::to_string(index) + " of " + TextOf(schema));
  }
  return static_cast<std::size_t>(index);
}

std::size_t WrittenArgument(const c10::FunctionSchema& schema, const Node& node) {
  const std::string name = node.String();
  for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
    if (schema.arguments()[i].name() != name) continue;
    if (!IsWritten(schema.arguments()[i])) node.Fail(name + " is not written to by " + TextOf(schema));
    return i;
  }
  node.Fail("there is no argument " + name + " of " + TextOf(schema));
}

torch::jit::Stack Values::ArgumentsFor(const c10::FunctionSchema& schema, const Node& arguments) {
  const std::vector<c10::Argument>& wanted = schema.arguments();
  const bool by_name = arguments.json().is_object();
  if (by_name) {
    for (const auto& [key, value] : arguments.json().items()) {
      const bool known = std::any_of(wanted.begin(), wanted.end(), [&](const auto& a) { return a.name() == key; });
      if (!known) arguments.At(key).Fail("there is no argument of that name: " + TextOf(schema));
    }
  } else if (arguments.ListSize() > wanted.size()) {
    arguments.Fail("gives " + std::to_string(arguments.ListSize()) + " arguments, too many for " + TextOf(schema));
  }
  torch::jit::Stack stack;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const c10::Argument& argument = wanted[i];
    if (by_name ? arguments.Has(argument.name()) : i < arguments.ListSize()) {
      stack.push_back(Convert(argument, *argument.type(), *argument.real_type(),
                              by_name ? arguments.At(argument.name()) : arguments.At(i)));
    } else if (argument.default_value()) {
      stack.push_back(*argument.default_value());
    } else {
      arguments.Fail("lacks " + argument.name() + " of " + TextOf(schema));
    }
  }
  return stack;
}

c10::IValue Values::Convert(const c10::Argument& argument, const c10::Type& type, const c10::Type& real_type,
                            const Node& node) {
  const nlohmann::json& json = node.json();
  const auto wrong = [&]() { node.Fail("the argument " + argument.name() + " is a " + argument.type()->str()); };
  switch (type.kind()) {
    case c10::TypeKind::OptionalType: {
      if (json.is_null()) return {};
      const auto& real = real_type.kind() == c10::TypeKind::OptionalType ? *real_type.containedTypes()[0] : real_type;
      return Convert(argument, *type.containedTypes()[0], real, node);
    }
    case c10::TypeKind::TensorType:
      if (!json.is_object()) wrong();
      return TensorOf(node);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      if (real_type.kind() == c10::TypeKind::ScalarTypeType) return static_cast<std::int64_t>(TypeAt(node));
      if (!json.is_number_integer()) wrong();
      return node.Integer(INT64_MIN, INT64_MAX);
    case c10::TypeKind::FloatType:
      if (!json.is_number()) wrong();
      return node.Number();
    case c10::TypeKind::BoolType:
      if (!json.is_boolean()) wrong();
      return node.Bool();
    case c10::TypeKind::NumberType:
      if (json.is_boolean()) return node.Bool();
      if (json.is_number_integer()) return node.Integer(INT64_MIN, INT64_MAX);
      if (!json.is_number()) wrong();
      return node.Number();
    case c10::TypeKind::StringType:
      if (!json.is_string()) wrong();
      return node.String();
    case c10::TypeKind::DeviceObjType:
      if (!json.is_string() || node.String() != "device")
        node.Fail("must be \"device\": the one that the test runs on");
      return device_;
    case c10::TypeKind::ListType: {
      if (!json.is_array()) wrong();
      const c10::TypePtr element = type.containedTypes()[0];
      const c10::TypePtr real = real_type.kind() == c10::TypeKind::ListType ? real_type.containedTypes()[0] : element;
      c10::impl::GenericList list(element);
      for (std::size_t i = 0; i < node.ListSize(); ++i) {
        list.push_back(Convert(argument, *element, *real, node.At(i)));
      }
      return list;
    }
    default:
      if (json.is_null()) return {};
      node.Fail("the argument " + argument.name() + " is a " + argument.type()->str() +
                ", which a description cannot give");
  }
}

at::Tensor Values::TensorOf(const Node& node) {
  if (node.Has("value")) {
    node.ExpectKeys({"value"});
    return Named(node, node.At("value").String());
  }
  if (!node.Has("part")) return Make(node);
  node.ExpectKeys({"part", "of"});
  const std::string part = node.At("part").OneOf(PartNames());
  try {
    return PartOf(WeightNamed(node.At("of"), node.At("of").String()), part).to(device_);
  } catch (const std::invalid_argument& error) {
    node.Fail(error.what());
  }
}

at::Tensor Values::Named(const Node& user, const std::string& name) {
  if (const auto known = tensors_.find(name); known != tensors_.end()) return known->second;
  if (!table_.Has(name)) user.Fail("there is no value '" + name + "'");
  const Node node = table_.At(name);
  if (node.Has("quantized"))
    user.Fail("'" + name + "' is a quantized weight; take a {\"part\": ..., \"of\": ...} of it");
  if (!in_making_.insert(name).second) node.Fail("is made of itself");
  const at::Tensor made = TensorOf(node);
  in_making_.erase(name);
  return tensors_.emplace(name, made).first->second;
}

const Weight& Values::WeightNamed(const Node& user, const std::string& name) {
  if (const auto known = weights_.find(name); known != weights_.end()) return known->second;
  if (!table_.Has(name) || !table_.At(name).Has("quantized")) user.Fail("there is no quantized weight '" + name + "'");
  const Node node = table_.At(name);
  node.ExpectKeys({"quantized", "k", "n", "group_size", "symmetric", "desc_act", "seed"});
  constexpr std::int64_t kMost = 1 << 20;
  WeightShape shape;
  shape.format = node.At("quantized").OneOf({"awq", "gptq"});
  shape.k = node.At("k").Integer(8, kMost);
  shape.n = node.At("n").Integer(8, kMost);
  if (node.Has("group_size")) shape.group_size = node.At("group_size").Integer(8, kMost);
  if (node.Has("symmetric")) shape.symmetric = node.At("symmetric").Bool();
  if (node.Has("desc_act")) shape.desc_act = node.At("desc_act").Bool();
  shape.seed = static_cast<std::uint64_t>(node.At("seed").Integer(0, INT64_MAX));
  if (shape.k % 8 != 0 || shape.n % 8 != 0) node.Fail("k and n must be multiples of 8");
  if (shape.k % shape.group_size != 0) node.Fail("k must be a multiple of group_size, which is 128 if not given");
  if (shape.desc_act && shape.format != "gptq") node.At("desc_act").Fail("only gptq has it");
  return weights_.emplace(name, RandomWeight(shape)).first->second;
}

at::Tensor Values::Make(const Node& node) {
  if (node.Has("op")) return Packed(node);
  if (node.Has("random")) return RandomTensor(node).to(device_);
  if (node.Has("fill")) {
    node.ExpectKeys({"fill", "shape", "dtype"});
    return at::full(ShapeAt(node.At("shape")), node.At("fill").Number(), TypeAt(node.At("dtype"))).to(device_);
  }
  if (node.Has("data")) {
    node.ExpectKeys({"data", "shape", "dtype"});
    const Node data = node.At("data");
    const std::vector<std::int64_t> shape = ShapeAt(node.At("shape"));
    at::Tensor values = at::empty(shape, at::kDouble);
    if (static_cast<std::size_t>(values.numel()) != data.ListSize()) {
      data.Fail("has " + std::to_string(data.ListSize()) + " numbers, but the shape has " +
                std::to_string(values.numel()));
    }
    for (std::size_t i = 0; i < data.ListSize(); ++i) values.mutable_data_ptr<double>()[i] = data.At(i).Number();
    return values.to(TypeAt(node.At("dtype"))).to(device_);
  }
  node.Fail("is no tensor: give one of \"value\", \"part\", \"random\", \"fill\", \"data\", \"op\"");
}

at::Tensor Values::Packed(const Node& node) {
  node.ExpectKeys({"op", "arguments", "take"});
  const auto [name, overload] = SplitOverload(node.At("op").String());
  c10::OperatorHandle op = [&] {
    try {
      return kernels::FindOperator(name, overload);
    } catch (const std::invalid_argument& error) {
      node.At("op").Fail(error.what());
    }
  }();
  torch::jit::Stack stack = ArgumentsFor(op.schema(), node.At("arguments"));
  std::optional<std::size_t> result, argument;
  if (!node.Has("take")) {
    result = 0;
    if (op.schema().returns().empty())
      node.Fail("needs \"take\": the name of the argument that the operator writes to");
  } else if (node.At("take").json().is_string()) {
    argument = WrittenArgument(op.schema(), node.At("take"));
    // The value that it is made of stays as it is.
    stack[*argument] = stack[*argument].toTensor().clone();
  } else {
    result = ResultIndex(op.schema(), node.At("take"));
  }
  const c10::IValue written = argument ? stack[*argument] : c10::IValue();
  op.callBoxed(stack);
  const c10::IValue& made = argument ? written : stack[*result];
  if (!made.isTensor() || !made.toTensor().defined()) node.Fail("does not give a tensor: " + TextOf(op.schema()));
  return made.toTensor();
}

}  // namespace suites::op_test
