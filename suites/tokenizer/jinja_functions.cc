#include "suites/tokenizer/jinja_functions.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "suites/checkpoint/json_file.h"

namespace suites::jinja {
namespace {

using Kind = Value::Kind;

constexpr std::size_t kItemCost = 32;  // bytes of an item of a list, about

const std::string& TextOf(const Value& value, const std::string& what) {
  if (!value.Is(Kind::kString)) throw Error(what + " takes a string, not " + value.Name());
  return value.text();
}

std::int64_t IntOf(const Value& value, const std::string& what) {
  if (!value.Is(Kind::kInt) && !value.Is(Kind::kBool)) throw Error(what + " takes a whole number, not " + value.Name());
  return value.integer();
}

Value Made(std::string text, Budget& budget) {
  budget.Spend(text.size());
  return Value::Of(std::move(text));
}
Value Made(Value::List items, Budget& budget) {
  budget.Spend(items.size() * kItemCost);
  return Value::Of(std::move(items));
}

void TakeAtMost(const Arguments& arguments, std::size_t count, const std::string& what) {
  if (arguments.positional.size() + arguments.named.size() > count)
    throw Error(what + " with these arguments is not read");
}

// Python changes the case of letters beyond ASCII by tables that are not here.
Value ChangeCase(const std::string& text, bool upper, Budget& budget) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) throw Error("upper and lower are read for ASCII only");
    const char first = upper ? 'a' : 'A';
    out += c >= first && c <= first + 25 ? static_cast<char>(c ^ 0x20) : c;
  }
  return Made(std::move(out), budget);
}

std::string Replaced(const std::string& text, const std::string& from, const std::string& to, Budget& budget) {
  if (from.empty()) throw Error("replace of an empty string is not read");
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, done)) {
    budget.Spend(to.size());
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  return out.append(text, done);
}

Value Split(const std::string& text, const Arguments& arguments, Budget& budget) {
  const Value* separator = arguments.Get(0, "sep");
  const Value* limit = arguments.Get(1, "maxsplit");
  std::int64_t left = limit == nullptr ? -1 : IntOf(*limit, "split");
  Value::List parts;
  if (separator == nullptr || separator->Is(Kind::kNone)) {
    if (left >= 0) throw Error("split at white space with a limit is not read");
    std::string word;
    for (const std::string_view character : Characters(text)) {
      if (!Strip(character, nullptr, true, false).empty()) {
        word += character;
      } else if (!word.empty()) {
        parts.push_back(Value::Of(std::exchange(word, {})));
      }
    }
    if (!word.empty()) parts.push_back(Value::Of(std::move(word)));
    return Made(std::move(parts), budget);
  }
  const std::string& sep = TextOf(*separator, "split");
  if (sep.empty()) throw Error("split at an empty string");
  std::size_t begin = 0;
  for (std::size_t at = text.find(sep); at != text.npos && left != 0; at = text.find(sep, begin)) {
    parts.push_back(Value::Of(text.substr(begin, at - begin)));
    begin = at + sep.size();
    if (left > 0) --left;
  }
  parts.push_back(Value::Of(text.substr(begin)));
  return Made(std::move(parts), budget);
}

std::int64_t Length(const Value& value, Budget& budget) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      budget.Spend(value.text().size());
      return std::count_if(value.text().begin(), value.text().end(),
                           [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
    case Kind::kList:
      return std::ssize(value.list());
    case Kind::kDict:
      return std::ssize(value.dict());
    default:
      throw Error(value.Name() + " has no length");
  }
}

Value::List PairsOf(const Value& dict) {
  Value::List items;
  for (const auto& [key, value] : dict.dict()) items.push_back(Value::Of(Value::List{Value::Of(key), value}));
  return items;
}

Value ToInt(const Value& value, const Arguments& arguments) {
  const Value* other = arguments.Get(0, "default");
  if (value.Is(Kind::kFloat)) {
    if (std::fabs(value.real()) < 9e18) return Value::Of(static_cast<std::int64_t>(value.real()));
  } else if (value.number()) {
    return Value::Of(value.integer());
  } else if (value.Is(Kind::kString)) {
    const std::string_view text = Strip(value.text(), nullptr, true, true);
    std::int64_t number = 0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
    if (end.ec == std::errc() && end.ptr == text.data() + text.size()) return Value::Of(number);
    if (text.find_first_of("0123456789") != text.npos) throw Error("int of " + Quoted(text) + " is not read");
  }
  return other == nullptr ? Value::Of(std::int64_t{0}) : *other;
}

std::string Joined(const Value& value, const Arguments& arguments, Budget& budget) {
  const Value* separator = arguments.Get(0, "d");
  const std::string between = separator == nullptr ? "" : separator->Text();
  std::string out;
  bool first = true;
  for (const Value& item : ItemsOf(value, budget)) {
    if (!first) out += between;
    first = false;
    const std::string text = item.Text();
    budget.Spend(text.size() + between.size());
    out += text;
  }
  return out;
}

}  // namespace

void Budget::Spend(std::size_t cost) {
  if (cost > left_) throw Error("the template computes or writes too much");
  left_ -= cost;
}

const Value* Arguments::Get(std::size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  const auto found = std::find_if(named.begin(), named.end(), [&](const auto& item) { return item.first == name; });
  return found == named.end() ? nullptr : &found->second;
}

Value::List ItemsOf(const Value& value, Budget& budget) {
  Value::List items;
  switch (value.kind()) {
    case Kind::kUndefined:
      break;
    case Kind::kList:
      items = value.list();
      break;
    case Kind::kDict:
      for (const auto& item : value.dict()) items.push_back(Value::Of(item.first));
      break;
    case Kind::kString:
      budget.Spend(value.text().size() * kItemCost);
      for (const std::string_view c : Characters(value.text())) items.push_back(Value::Of(std::string(c)));
      break;
    default:
      throw Error(value.Name() + " is gone through as a list");
  }
  budget.Spend(items.size() * kItemCost);
  return items;
}

Value ApplyFilter(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget) {
  if (name == "default" || name == "d") {
    TakeAtMost(arguments, 2, name);
    const Value* other = arguments.Get(0, "default_value");
    const Value* boolean = arguments.Get(1, "boolean");
    const bool missing = value.Is(Kind::kUndefined) || (boolean != nullptr && boolean->Truth() && !value.Truth());
    if (!missing) return value;
    return other == nullptr ? Value::Of(std::string()) : *other;
  }
  if (name == "tojson") {
    TakeAtMost(arguments, 1, name);
    const Value* indent = arguments.Get(0, "indent");
    const bool lines = indent != nullptr && !indent->Is(Kind::kNone);
    const std::int64_t spaces = lines ? IntOf(*indent, name) : -1;
    if (spaces > 16 || (lines && spaces < 0)) throw Error("tojson with this indent is not read");
    return Made(ToJson(value, static_cast<int>(spaces)), budget);
  }
  if (name == "length" || name == "count") return Value::Of(Length(value, budget));
  if (name == "string" || name == "safe") return Made(value.Text(), budget);
  if (name == "trim") {
    TakeAtMost(arguments, 1, name);
    const Value* set = arguments.Get(0, "chars");
    const std::string text = value.Text();
    return Made(std::string(Strip(text, set == nullptr ? nullptr : &TextOf(*set, name), true, true)), budget);
  }
  if (name == "upper" || name == "lower") return ChangeCase(value.Text(), name == "upper", budget);
  if (name == "join") {
    TakeAtMost(arguments, 1, name);
    return Value::Of(Joined(value, arguments, budget));
  }
  if (name == "replace") {
    const Value* from = arguments.Get(0, "old");
    const Value* to = arguments.Get(1, "new");
    TakeAtMost(arguments, 2, name);
    if (from == nullptr || to == nullptr) throw Error("replace without its two arguments");
    return Made(Replaced(value.Text(), from->Text(), to->Text(), budget), budget);
  }
  if (name == "items") {
    if (value.Is(Kind::kUndefined)) return Value::Of(Value::List());
    if (!value.Is(Kind::kDict)) throw Error("items takes a dict, not " + value.Name());
    return Made(PairsOf(value), budget);
  }
  if (name == "list") return Made(ItemsOf(value, budget), budget);
  if (name == "int") {
    TakeAtMost(arguments, 1, name);
    return ToInt(value, arguments);
  }
  if (name == "first" || name == "last") {
    const Value::List items = ItemsOf(value, budget);
    if (items.empty()) return Value::Undefined("the " + name + " of nothing");
    return name == "first" ? items.front() : items.back();
  }
  throw Error("the filter " + Quoted(name) + " is not read");
}

bool ApplyTest(const std::string& name, const Value& value) {
  const Kind kind = value.kind();
  if (name == "defined") return kind != Kind::kUndefined;
  if (name == "undefined") return kind == Kind::kUndefined;
  if (name == "none") return kind == Kind::kNone;
  if (name == "string") return kind == Kind::kString;
  if (name == "mapping") return kind == Kind::kDict;
  if (name == "boolean") return kind == Kind::kBool;
  if (name == "true") return kind == Kind::kBool && value.boolean();
  if (name == "false") return kind == Kind::kBool && !value.boolean();
  if (name == "integer") return kind == Kind::kInt;
  if (name == "float") return kind == Kind::kFloat;
  if (name == "number") return value.number();
  // jinja2's undefined can be gone through, as nothing.
  if (name == "iterable" || name == "sequence") {
    return kind == Kind::kUndefined || kind == Kind::kString || kind == Kind::kList || kind == Kind::kDict;
  }
  throw Error("the test " + Quoted(name) + " is not read");
}

Value CallMethod(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (object.Is(Kind::kString)) {
    const std::string& text = object.text();
    budget.Spend(text.size());
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
      TakeAtMost(arguments, 1, name);
      const Value* set = arguments.Get(0, "");
      const bool given = set != nullptr && !set->Is(Kind::kNone);
      return Made(std::string(Strip(text, given ? &TextOf(*set, name) : nullptr, name != "rstrip", name != "lstrip")),
                  budget);
    }
    if (name == "split") {
      TakeAtMost(arguments, 2, name);
      return Split(text, arguments, budget);
    }
    if (name == "startswith" || name == "endswith") {
      TakeAtMost(arguments, 1, name);
      const Value* part = arguments.Get(0, "");
      if (part == nullptr) throw Error(name + " without its argument");
      return Value::Of(name == "startswith" ? text.starts_with(TextOf(*part, name))
                                            : text.ends_with(TextOf(*part, name)));
    }
    if (name == "replace") {
      TakeAtMost(arguments, 2, name);
      if (arguments.positional.size() != 2) throw Error("replace without its two arguments");
      return Made(Replaced(text, TextOf(arguments.positional[0], name), TextOf(arguments.positional[1], name), budget),
                  budget);
    }
    if (name == "upper" || name == "lower") {
      TakeAtMost(arguments, 0, name);
      return ChangeCase(text, name == "upper", budget);
    }
  }
  if (object.Is(Kind::kDict)) {
    if (name == "items" || name == "keys" || name == "values") {
      TakeAtMost(arguments, 0, name);
      if (name == "items") return Made(PairsOf(object), budget);
      Value::List items;
      for (const auto& [key, value] : object.dict()) items.push_back(name == "keys" ? Value::Of(key) : value);
      return Made(std::move(items), budget);
    }
    if (name == "get") {
      TakeAtMost(arguments, 2, name);
      if (arguments.positional.empty()) throw Error("get without a key");
      const Value& key = arguments.positional[0];
      const Value* found = key.Is(Kind::kString) ? object.Find(key.text()) : nullptr;
      if (found != nullptr) return *found;
      return arguments.positional.size() > 1 ? arguments.positional[1] : Value::None();
    }
  }
  throw Error("the method " + Quoted(name) + " of " + object.Name() + " is not read");
}

Value CallFunction(const std::string& name, const Arguments& arguments, Budget& budget) {
  if (name == "namespace") {
    if (!arguments.positional.empty()) throw Error("namespace takes arguments with names only");
    return Value::Namespace(arguments.named);
  }
  if (name == "raise_exception") {
    const Value* message = arguments.Get(0, "message");
    throw Error("the template says: " + Quoted(message == nullptr ? "" : message->Text()));
  }
  if (name == "range") {
    if (arguments.positional.empty() || arguments.positional.size() > 3 || !arguments.named.empty())
      throw Error("range takes one to three numbers");
    std::int64_t bounds[3] = {0, 0, 1};
    if (arguments.positional.size() == 1) {
      bounds[1] = IntOf(arguments.positional[0], name);
    } else {
      for (std::size_t i = 0; i < arguments.positional.size(); ++i) bounds[i] = IntOf(arguments.positional[i], name);
    }
    if (bounds[2] == 0) throw Error("range with a step of 0");
    Value::List items;
    for (std::int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1];) {
      budget.Spend(kItemCost);
      items.push_back(Value::Of(i));
      if (__builtin_add_overflow(i, bounds[2], &i)) break;
    }
    return Value::Of(std::move(items));
  }
  throw Error("the function " + Quoted(name) + " is not read; read are namespace, range, raise_exception");
}

Value Binary(const std::string& op, const Value& left, const Value& right, Budget& budget) {
  if (op == "~") {
    const std::string a = left.Text();
    const std::string b = right.Text();
    budget.Spend(a.size() + b.size());
    return Value::Of(a + b);
  }
  if (op == "+" && left.Is(Kind::kString) && right.Is(Kind::kString)) {
    budget.Spend(left.text().size() + right.text().size());
    return Value::Of(left.text() + right.text());
  }
  if (op == "+" && left.Is(Kind::kList) && right.Is(Kind::kList)) {
    budget.Spend((left.list().size() + right.list().size()) * kItemCost);
    Value::List items = left.list();
    items.insert(items.end(), right.list().begin(), right.list().end());
    return Value::Of(std::move(items));
  }
  if (!left.number() || !right.number()) throw Error(Quoted(op) + " between " + left.Name() + " and " + right.Name());
  if (op == "/" || left.Is(Kind::kFloat) || right.Is(Kind::kFloat)) {
    const double a = left.real();
    const double b = right.real();
    if (op == "+") return Value::Of(a + b);
    if (op == "-") return Value::Of(a - b);
    if (op == "*") return Value::Of(a * b);
    if (b == 0) throw Error("a division by zero");
    if (op == "/") return Value::Of(a / b);
    throw Error(Quoted(op) + " of numbers with a fraction is not read");
  }
  const std::int64_t a = left.integer();
  const std::int64_t b = right.integer();
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &out);
  if (op == "-") overflow = __builtin_sub_overflow(a, b, &out);
  if (op == "*") overflow = __builtin_mul_overflow(a, b, &out);
  if (op == "//" || op == "%") {  // towards minus infinity
    if (b == 0) throw Error("a division by zero");
    overflow = b == -1 && a == INT64_MIN;
    if (!overflow) {
      const std::int64_t rest = a % b;
      const bool below = rest != 0 && (rest < 0) != (b < 0);
      out = op == "//" ? a / b - (below ? 1 : 0) : rest + (below ? b : 0);
    }
  }
  if (overflow) throw Error("a number that does not fit 64 bits");
  return Value::Of(out);
}

bool Compare(const std::string& op, const Value& left, const Value& right, Budget& budget) {
  budget.Spend(std::min(left.weight(), right.weight()));
  if (op == "==") return left == right;
  if (op == "!=") return !(left == right);
  if (op == "in" || op == "not in") {
    bool found = false;
    if (right.Is(Kind::kString)) {
      budget.Spend(right.text().size());
      found = right.text().find(TextOf(left, "in")) != std::string::npos;
    } else if (right.Is(Kind::kDict)) {
      found = left.Is(Kind::kString) && right.Find(left.text()) != nullptr;
    } else if (right.Is(Kind::kList)) {
      budget.Spend(right.weight());
      found = std::find(right.list().begin(), right.list().end(), left) != right.list().end();
    } else if (!right.Is(Kind::kUndefined)) {
      throw Error("'in' takes a string, a list or a dict, not " + right.Name());
    }
    return found == (op == "in");
  }
  int order = 0;
  if (left.number() && right.number()) {
    const bool real = left.Is(Kind::kFloat) || right.Is(Kind::kFloat);
    const bool less = real ? left.real() < right.real() : left.integer() < right.integer();
    const bool more = real ? left.real() > right.real() : left.integer() > right.integer();
    if (!less && !more && !(left == right)) return false;  // not a number
    order = less ? -1 : more ? 1 : 0;
  } else if (left.Is(Kind::kString) && right.Is(Kind::kString)) {
    order = left.text().compare(right.text());
  } else {
    throw Error(Quoted(op) + " between " + left.Name() + " and " + right.Name());
  }
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

}  // namespace suites::jinja
