#include "suites/tokenizer/jinja.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "suites/checkpoint/json_file.h"
#include "suites/tokenizer/jinja_functions.h"

namespace suites::jinja {
namespace {

using Kind = Value::Kind;

class Renderer {
 public:
  explicit Renderer(const nlohmann::ordered_json& variables) : frames_(1) {
    for (const auto& [name, value] : variables.items()) frames_.front()[name] = Value::FromJson(value);
  }

  std::string Run(const Node& root) {
    std::string out;
    try {
      Execute(root, &out);
    } catch (const Error& error) {
      throw Error("line " + std::to_string(line_) + ": " + error.what());
    }
    return out;
  }

 private:
  enum class Flow : std::uint8_t { kOn, kBreak, kContinue };

  Flow Execute(const Node& node, std::string* out) {
    budget_.Spend(Budget::kStep);
    line_ = node.line;
    switch (node.kind) {
      case Node::Kind::kBlock:
        for (const auto& child : node.children) {
          if (const Flow flow = Execute(*child, out); flow != Flow::kOn) return flow;
        }
        return Flow::kOn;
      case Node::Kind::kData:
        Write(out, node.text);
        return Flow::kOn;
      case Node::Kind::kOutput:
        Write(out, Evaluate(*node.children[0]).Text());
        return Flow::kOn;
      case Node::Kind::kIf:
        for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) {
          if (Evaluate(*node.children[i]).Truth()) return Execute(*node.children[i + 1], out);
        }
        return node.children.size() % 2 == 1 ? Execute(*node.children.back(), out) : Flow::kOn;
      case Node::Kind::kFor:
        return For(node, out);
      case Node::Kind::kSet:
        Set(node);
        return Flow::kOn;
      case Node::Kind::kBreak:
        return Flow::kBreak;
      default:
        return Flow::kContinue;
    }
  }

  void Write(std::string* out, const std::string& text) {
    budget_.Spend(text.size());
    *out += text;
  }

  void Bind(const Node& node, const Value& item) {
    if (node.names.size() == 1) {
      frames_.back()[node.names[0]] = item;
      return;
    }
    if (!item.Is(Kind::kList) || item.list().size() != node.names.size()) {
      throw Error("a loop over " + std::to_string(node.names.size()) + " variables meets " + item.Name());
    }
    for (std::size_t i = 0; i < node.names.size(); ++i) frames_.back()[node.names[i]] = item.list()[i];
  }

  Flow For(const Node& node, std::string* out) {
    Value::List items = ItemsOf(Evaluate(*node.children[0]), budget_);
    if (node.children[1] != nullptr) {
      Value::List kept;
      for (const Value& item : items) {
        frames_.emplace_back();
        Bind(node, item);
        const bool keep = Evaluate(*node.children[1]).Truth();
        frames_.pop_back();
        if (keep) kept.push_back(item);
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      if (node.children[3] == nullptr) return Flow::kOn;
      return Execute(*node.children[3], out);
    }
    const auto number = [](std::size_t value) { return Value::Of(static_cast<std::int64_t>(value)); };
    for (std::size_t i = 0; i < items.size(); ++i) {
      budget_.Spend(16 * Budget::kStep);  // the variables of the loop
      frames_.emplace_back();
      Bind(node, items[i]);
      frames_.back()["loop"] = Value::Of(
          Value::Dict{{"index0", number(i)},
                      {"index", number(i + 1)},
                      {"revindex0", number(items.size() - i - 1)},
                      {"revindex", number(items.size() - i)},
                      {"length", number(items.size())},
                      {"first", Value::Of(i == 0)},
                      {"last", Value::Of(i + 1 == items.size())},
                      {"previtem", i == 0 ? Value::Undefined("loop.previtem") : items[i - 1]},
                      {"nextitem", i + 1 == items.size() ? Value::Undefined("loop.nextitem") : items[i + 1]}});
      const Flow flow = Execute(*node.children[2], out);
      frames_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kOn;
  }

  void Set(const Node& node) {
    Value value;
    if (node.children[0]->kind == Node::Kind::kBlock) {
      std::string text;
      frames_.emplace_back();
      Execute(*node.children[0], &text);
      frames_.pop_back();
      value = Value::Of(std::move(text));
    } else {
      value = Evaluate(*node.children[0]);
    }
    if (node.names.size() == 1) {
      frames_.back()[node.names[0]] = std::move(value);
      return;
    }
    Value* space = Find(node.names[0]);
    if (space == nullptr || !space->Is(Kind::kNamespace)) throw Error(Quoted(node.names[0]) + " is not a namespace");
    space->Assign(node.names[1], std::move(value));
  }

  Value* Find(const std::string& name) {
    for (auto frame = frames_.rbegin(); frame != frames_.rend(); ++frame) {
      if (const auto found = frame->find(name); found != frame->end()) return &found->second;
    }
    return nullptr;
  }

  Arguments ArgumentsOf(const Node& node) {
    Arguments arguments;
    const std::size_t unnamed = node.children.size() - node.names.size();
    for (std::size_t i = 1; i < node.children.size(); ++i) {
      Value value = Evaluate(*node.children[i]);
      if (i < unnamed) {
        arguments.positional.push_back(std::move(value));
      } else {
        arguments.named.emplace_back(node.names[i - unnamed], std::move(value));
      }
    }
    return arguments;
  }

  Value Evaluate(const Node& node) {
    budget_.Spend(Budget::kStep);
    using Of = Node::Kind;
    const auto child = [&](std::size_t i) { return Evaluate(*node.children[i]); };
    switch (node.kind) {
      case Of::kConstant:
        return node.value;
      case Of::kName: {
        const Value* found = Find(node.text);
        return found == nullptr ? Value::Undefined(node.text) : *found;
      }
      case Of::kList: {
        Value::List items;
        for (const auto& item : node.children) items.push_back(Evaluate(*item));
        return Value::Of(std::move(items));
      }
      case Of::kDict:
        return Dict(node);
      case Of::kAttribute:
        return Attribute(child(0), node.text);
      case Of::kItem:
        return Item(child(0), child(1));
      case Of::kSlice:
        return Slice(node);
      case Of::kCall:
        return Call(node);
      case Of::kFilter: {
        const Value value = child(0);
        return ApplyFilter(node.text, value, ArgumentsOf(node), budget_);
      }
      case Of::kTest:
        return Value::Of(ApplyTest(node.text, child(0)));
      case Of::kNot:
        return Value::Of(!child(0).Truth());
      case Of::kNegate: {
        const Value value = child(0);
        if (value.Is(Kind::kFloat)) return Value::Of(-value.real());
        return Binary("-", Value::Of(std::int64_t{0}), value, budget_);
      }
      case Of::kBinary: {
        const Value left = child(0);
        return Binary(node.text, left, child(1), budget_);
      }
      case Of::kCompare: {
        const Value left = child(0);
        return Value::Of(Compare(node.text, left, child(1), budget_));
      }
      case Of::kAnd: {
        Value left = child(0);
        return left.Truth() ? child(1) : left;
      }
      case Of::kOr: {
        Value left = child(0);
        return left.Truth() ? left : child(1);
      }
      case Of::kCondition:
        if (child(1).Truth()) return child(0);
        return node.children[2] == nullptr ? Value::Undefined("an if without else") : child(2);
      default:
        throw Error("a statement where a value is expected");
    }
  }

  Value Dict(const Node& node) {
    Value::Dict items;
    for (std::size_t i = 0; i < node.children.size(); i += 2) {
      const Value key = Evaluate(*node.children[i]);
      if (!key.Is(Kind::kString)) throw Error("a key that is " + key.Name() + " is not read");
      Value value = Evaluate(*node.children[i + 1]);
      budget_.Spend(items.size());
      const auto same = [&](const auto& item) { return item.first == key.text(); };
      if (const auto found = std::find_if(items.begin(), items.end(), same); found != items.end()) {
        found->second = std::move(value);
      } else {
        items.emplace_back(key.text(), std::move(value));
      }
    }
    return Value::Of(std::move(items));
  }

  // What jinja2 does on an undefined value, an error there too.
  static void NeedDefined(const Value& value, const std::string& of) {
    if (value.Is(Kind::kUndefined)) throw Error(of + " of " + value.Name());
  }

  static Value Attribute(const Value& object, const std::string& name) {
    NeedDefined(object, Quoted(name));
    if (object.Is(Kind::kDict) || object.Is(Kind::kNamespace)) {
      static constexpr std::string_view kMethods[] = {"clear", "copy",    "fromkeys",   "get",    "items", "keys",
                                                      "pop",   "popitem", "setdefault", "update", "values"};
      const bool method =
          object.Is(Kind::kDict) && std::find(std::begin(kMethods), std::end(kMethods), name) != std::end(kMethods);
      if (method) throw Error("the method " + Quoted(name) + " without a call is not read");
      if (const Value* found = object.Find(name)) return *found;
    }
    return Value::Undefined(name);
  }

  Value Item(const Value& object, const Value& key) {
    NeedDefined(object, "an item");
    if (object.Is(Kind::kDict) || object.Is(Kind::kNamespace)) {
      const Value* found = key.Is(Kind::kString) ? object.Find(key.text()) : nullptr;
      return found == nullptr ? Value::Undefined(key.Is(Kind::kString) ? key.text() : "an item") : *found;
    }
    if (!key.Is(Kind::kInt) || (!object.Is(Kind::kList) && !object.Is(Kind::kString)))
      return Value::Undefined("an item");
    if (object.Is(Kind::kString)) budget_.Spend(object.text().size());
    const auto characters = object.Is(Kind::kString) ? Characters(object.text()) : std::vector<std::string_view>();
    const std::int64_t size = object.Is(Kind::kList) ? std::ssize(object.list()) : std::ssize(characters);
    const std::int64_t index = key.integer() < 0 ? key.integer() + size : key.integer();
    if (index < 0 || index >= size) return Value::Undefined("an item beyond the last");
    const auto at = static_cast<std::size_t>(index);
    return object.Is(Kind::kList) ? object.list()[at] : Value::Of(std::string(characters[at]));
  }

  Value Slice(const Node& node) {
    const Value object = Evaluate(*node.children[0]);
    if (!object.Is(Kind::kList) && !object.Is(Kind::kString)) throw Error("a slice of " + object.Name());
    const auto bound = [&](std::size_t i, std::int64_t missing) {
      if (node.children[i] == nullptr) return missing;
      const Value value = Evaluate(*node.children[i]);
      if (value.Is(Kind::kNone)) return missing;
      if (!value.Is(Kind::kInt)) throw Error("a bound of a slice is " + value.Name());
      return value.integer();
    };
    const Value::List items = ItemsOf(object, budget_);
    const std::int64_t size = std::ssize(items);
    const std::int64_t step = bound(3, 1);
    if (step == 0) throw Error("a slice with a step of 0");
    const std::int64_t lowest = step > 0 ? 0 : -1;
    const std::int64_t highest = step > 0 ? size : size - 1;
    const auto inside = [&](std::int64_t i) { return std::clamp(i < 0 ? i + size : i, lowest, highest); };
    // A missing bound is the end itself, which -1 would not mean.
    constexpr std::int64_t kMissing = INT64_MAX;
    const std::int64_t first = bound(1, kMissing);
    const std::int64_t last = bound(2, kMissing);
    std::int64_t i = first == kMissing ? (step > 0 ? lowest : highest) : inside(first);
    const std::int64_t end = last == kMissing ? (step > 0 ? highest : lowest) : inside(last);
    Value::List part;
    for (; step > 0 ? i < end : i > end;) {
      part.push_back(items[static_cast<std::size_t>(i)]);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    if (object.Is(Kind::kList)) return Value::Of(std::move(part));
    std::string text;
    for (const Value& character : part) text += character.text();
    return Value::Of(std::move(text));
  }

  Value Call(const Node& node) {
    const Node& callee = *node.children[0];
    if (callee.kind == Node::Kind::kAttribute) {
      const Value object = Evaluate(*callee.children[0]);
      NeedDefined(object, Quoted(callee.text));
      return CallMethod(object, callee.text, ArgumentsOf(node), budget_);
    }
    if (callee.kind != Node::Kind::kName) throw Error("a call of what has no name is not read");
    if (Find(callee.text) != nullptr) throw Error(Quoted(callee.text) + " is not a function");
    return CallFunction(callee.text, ArgumentsOf(node), budget_);
  }

  std::vector<std::map<std::string, Value>> frames_;
  Budget budget_;
  int line_ = 1;
};

}  // namespace

Template::Template(std::string_view source) : root_(Parse(source)) {}

std::string Template::Render(const nlohmann::ordered_json& variables) const { return Renderer(variables).Run(*root_); }

}  // namespace suites::jinja
