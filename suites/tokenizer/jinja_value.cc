#include "suites/tokenizer/jinja_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "suites/checkpoint/json_file.h"

namespace suites::jinja {
namespace {

constexpr int kMaxDepth = 100;
constexpr std::size_t kMaxWeight = std::size_t{1} << 26;

// repr() of a float: the shortest digits that read back, with an exponent below
// 1e-4 and from 1e16 on.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  const double size = std::fabs(value);
  const bool exponent = value != 0 && (size < 1e-4 || size >= 1e16);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 exponent ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer.data(), end.ptr);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void WriteText(std::string* out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\b':
        *out += "\\b";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *out += "\\u00";
          *out += kHex[static_cast<unsigned char>(c) >> 4];
          *out += kHex[c & 15];
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

void WriteJson(std::string* out, const Value& value, int indent, int level) {
  using Kind = Value::Kind;
  const auto line = [&](int depth) {
    if (indent < 0) return;
    *out += '\n';
    out->append(static_cast<std::size_t>(indent) * static_cast<std::size_t>(depth), ' ');
  };
  const char* const comma = indent < 0 ? ", " : ",";
  bool first = true;
  switch (value.kind()) {
    case Kind::kNone:
      *out += "null";
      return;
    case Kind::kBool:
      *out += value.boolean() ? "true" : "false";
      return;
    case Kind::kInt:
      *out += std::to_string(value.integer());
      return;
    case Kind::kFloat:
      if (std::isfinite(value.real())) {
        *out += FloatText(value.real());
      } else {
        *out += std::isnan(value.real()) ? "NaN" : value.real() < 0 ? "-Infinity" : "Infinity";
      }
      return;
    case Kind::kString:
      WriteText(out, value.text());
      return;
    case Kind::kList:
      *out += '[';
      for (const Value& item : value.list()) {
        if (!first) *out += comma;
        first = false;
        line(level + 1);
        WriteJson(out, item, indent, level + 1);
      }
      if (!first) line(level);
      *out += ']';
      return;
    case Kind::kDict:
      *out += '{';
      for (const auto& [key, item] : value.dict()) {
        if (!first) *out += comma;
        first = false;
        line(level + 1);
        WriteText(out, key);
        *out += ": ";
        WriteJson(out, item, indent, level + 1);
      }
      if (!first) line(level);
      *out += '}';
      return;
    default:
      throw Error("tojson meets " + value.Name());
  }
}

// White space of Python's str.
bool IsSpace(std::string_view character) {
  char32_t c = static_cast<unsigned char>(character[0]);
  if (character.size() == 2) c = (c & 0x1f) << 6 | (static_cast<unsigned char>(character[1]) & 0x3fU);
  if (character.size() == 3) {
    c = (c & 0xf) << 12 | (static_cast<unsigned char>(character[1]) & 0x3fU) << 6 |
        (static_cast<unsigned char>(character[2]) & 0x3fU);
  }
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace

Value Value::Undefined(std::string name) {
  Value value(Kind::kUndefined);
  value.text_ = std::make_shared<const std::string>(std::move(name));
  return value;
}
Value Value::None() { return Value(Kind::kNone); }
Value Value::Of(bool boolean) {
  Value value(Kind::kBool);
  value.integer_ = boolean ? 1 : 0;
  return value;
}
Value Value::Of(std::int64_t integer) {
  Value value(Kind::kInt);
  value.integer_ = integer;
  return value;
}
Value Value::Of(double real) {
  Value value(Kind::kFloat);
  value.real_ = real;
  return value;
}
Value Value::Of(std::string text) {
  Value value(Kind::kString);
  value.weight_ += text.size();
  value.text_ = std::make_shared<const std::string>(std::move(text));
  return value;
}

// Containers nest to a bound: their destructors are recursive. They weigh to a
// bound: [x, x] of [x, x] and so on is small, but a walk through it has no end. A
// namespace in a container could hold itself.
void Value::Hold(const Value& item) {
  if (item.Is(Kind::kNamespace)) throw Error("a namespace cannot be put into a list, a dict or a namespace");
  depth_ = std::max(depth_, item.depth_ + 1);
  if (depth_ > kMaxDepth) throw Error("lists and dicts nest deeper than " + std::to_string(kMaxDepth) + " levels");
  weight_ += item.weight_;
  if (weight_ > kMaxWeight) throw Error("a list or dict is too large");
}

Value Value::Of(List items) {
  Value value(Kind::kList);
  for (const Value& item : items) value.Hold(item);
  value.list_ = std::make_shared<const List>(std::move(items));
  return value;
}
Value Value::Of(Dict items) {
  Value value(Kind::kDict);
  for (const auto& [key, item] : items) {
    value.Hold(item);
    value.weight_ += key.size();
  }
  value.dict_ = std::make_shared<Dict>(std::move(items));
  return value;
}
Value Value::Namespace(Dict items) {
  Value value = Of(std::move(items));
  value.kind_ = Kind::kNamespace;
  value.depth_ = 0;
  value.weight_ = 1;
  return value;
}

Value Value::FromJson(const nlohmann::ordered_json& json) {
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return Of(json.get<bool>());
    case Type::number_unsigned:
      // Python's integers have no end; larger ones are not met in a conversation.
      if (json.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) throw Error("a number above 2^63");
      [[fallthrough]];
    case Type::number_integer:
      return Of(json.get<std::int64_t>());
    case Type::number_float:
      return Of(json.get<double>());
    case Type::string:
      return Of(json.get<std::string>());
    case Type::array: {
      List items;
      for (const auto& item : json) items.push_back(FromJson(item));
      return Of(std::move(items));
    }
    case Type::object: {
      Dict items;
      for (const auto& [key, item] : json.items()) items.emplace_back(key, FromJson(item));
      return Of(std::move(items));
    }
    default:
      return None();
  }
}

const Value* Value::Find(std::string_view key) const {
  const auto found = std::find_if(dict_->begin(), dict_->end(), [&](const auto& item) { return item.first == key; });
  return found == dict_->end() ? nullptr : &found->second;
}

void Value::Assign(const std::string& key, Value value) {
  Value(Kind::kDict).Hold(value);
  const auto found = std::find_if(dict_->begin(), dict_->end(), [&](const auto& item) { return item.first == key; });
  if (found == dict_->end()) {
    dict_->emplace_back(key, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

bool Value::Truth() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return integer_ != 0;
    case Kind::kFloat:
      return real_ != 0;
    case Kind::kString:
      return !text_->empty();
    case Kind::kList:
      return !list_->empty();
    case Kind::kDict:
      return !dict_->empty();
    case Kind::kNamespace:
      return true;
  }
  return false;
}

bool Value::operator==(const Value& other) const {
  if (number() && other.number()) {
    if (Is(Kind::kFloat) || other.Is(Kind::kFloat)) return real() == other.real();
    return integer_ == other.integer_;
  }
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::kString:
      return *text_ == *other.text_;
    case Kind::kList:
      return list_ == other.list_ || *list_ == *other.list_;
    case Kind::kDict:  // in any order
      return dict_ == other.dict_ ||
             (dict_->size() == other.dict_->size() && std::all_of(dict_->begin(), dict_->end(), [&](const auto& item) {
                const Value* found = other.Find(item.first);
                return found != nullptr && *found == item.second;
              }));
    case Kind::kNamespace:
      return dict_ == other.dict_;
    default:
      return true;  // none and none, undefined and undefined
  }
}

std::string Value::Name() const {
  switch (kind_) {
    case Kind::kUndefined:
      return text_->empty() ? "what is undefined" : Quoted(*text_) + ", which is undefined";
    case Kind::kNone:
      return "none";
    case Kind::kBool:
      return "a boolean";
    case Kind::kInt:
    case Kind::kFloat:
      return "a number";
    case Kind::kString:
      return "a string";
    case Kind::kList:
      return "a list";
    case Kind::kDict:
      return "a dict";
    case Kind::kNamespace:
      return "a namespace";
  }
  return "";
}

std::string Value::Text() const {
  switch (kind_) {
    case Kind::kUndefined:
      return "";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return boolean() ? "True" : "False";
    case Kind::kInt:
      return std::to_string(integer_);
    case Kind::kFloat:
      return FloatText(real_);
    case Kind::kString:
      return *text_;
    default:
      throw Error(Name() + " is written as text without tojson");
  }
}

std::string ToJson(const Value& value, int indent) {
  std::string out;
  WriteJson(&out, value, indent, 0);
  return out;
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) ++end;
    characters.push_back(text.substr(i, end - i));
    i = end;
  }
  return characters;
}

std::string_view Strip(std::string_view text, const std::string* set, bool left, bool right) {
  const std::vector<std::string_view> of_set = set == nullptr ? std::vector<std::string_view>() : Characters(*set);
  const auto goes = [&](std::string_view character) {
    return set == nullptr ? IsSpace(character) : std::find(of_set.begin(), of_set.end(), character) != of_set.end();
  };
  while (left && !text.empty()) {
    std::size_t end = 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) ++end;
    if (!goes(text.substr(0, end))) break;
    text.remove_prefix(end);
  }
  while (right && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) --begin;
    if (!goes(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

}  // namespace suites::jinja
