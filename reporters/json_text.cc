#include "reporters/json_text.h"

#include <algorithm>

namespace reporters {
namespace {

using nlohmann::ordered_json;

void Append(std::string& out, const ordered_json& value, std::size_t indent) {
  const bool by_line =
      value.is_object() ? !value.empty()
                        : value.is_array() &&
                              std::any_of(value.begin(), value.end(), [](const auto& e) { return e.is_structured(); });
  if (!by_line) {
    if (!value.is_array()) {
      out += CompactJson(value);
      return;
    }
    out += '[';
    bool first = true;
    for (const auto& element : value) {
      if (!first) out += ", ";
      first = false;
      out += CompactJson(element);
    }
    out += ']';
    return;
  }
  const std::string inner(indent + 2, ' ');
  out += value.is_object() ? "{\n" : "[\n";
  bool first = true;
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (!first) out += ",\n";
    first = false;
    out += inner;
    if (value.is_object()) out += CompactJson(it.key()) + ": ";
    Append(out, *it, indent + 2);
  }
  out += '\n' + std::string(indent, ' ') + (value.is_object() ? '}' : ']');
}

}  // namespace

std::string PrettyJson(const ordered_json& value) {
  std::string out;
  Append(out, value, 0);
  return out;
}

std::string CompactJson(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace reporters
