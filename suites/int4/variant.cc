#include "suites/int4/variant.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "suites/checkpoint/json_file.h"

namespace suites {
namespace {

using Json = nlohmann::ordered_json;

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

bool IsIdentifier(const std::string& id) {
  return !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

// The table's objects keep the last of two equal keys without a word; a second
// entry of one id would silently hide the first.
Json ParseWithoutDuplicates(std::istream& in, const std::string& name) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  const auto callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 16) throw VariantError(name + ": nested too deeply; a table of variants has three levels");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty()) {
      const std::string key = parsed.get<std::string>();
      if (!keys.back().insert(key).second && duplicate.empty()) duplicate = key;
    }
    return true;
  };
  Json table;
  try {
    table = Json::parse(in, callback);
  } catch (const Json::parse_error& error) {
    throw VariantError(name + ": not JSON (byte " + std::to_string(error.byte) +
                       "); write it as suites/variants.json is");
  } catch (const Json::out_of_range&) {
    throw VariantError(name + ": not JSON (a number too large); write it as suites/variants.json is");
  }
  if (!duplicate.empty()) throw VariantError(name + ": the key " + Quoted(duplicate) + " comes twice; keep one");
  return table;
}

std::string RequiredText(const Json& entry, const char* key, const std::string& where) {
  const auto found = entry.find(key);
  if (found == entry.end()) throw VariantError(where + ": the field '" + key + "' is missing; add it");
  if (!found->is_string() || found->get<std::string>().empty()) {
    throw VariantError(where + ": the field '" + key + "' must be a non-empty string");
  }
  return found->get<std::string>();
}

std::string OneOf(const std::string& value, const std::vector<std::string>& known, const char* key,
                  const std::string& where) {
  if (std::find(known.begin(), known.end(), value) == known.end()) {
    throw VariantError(where + ": there is no " + key + " " + Quoted(value) + "; there are: " + Join(known));
  }
  return value;
}

int SettingsCount(const Json& value, const std::string& where) {
  if (!value.is_number_integer() || value < 1 || value > 4096) {
    throw VariantError(where + ": must be a whole number from 1 to 4096");
  }
  return value.get<int>();
}

// "settings": {"threads": 4, "streams": 1, "inference_precision": "f32", "kv_cache_precision": "u8"}
RuntimeSettings ReadSettings(const Json& entry, const std::string& kernel, const std::string& where) {
  const std::vector<std::string> names = {"threads", "streams", "inference_precision", "kv_cache_precision"};
  RuntimeSettings settings;
  if (!entry.is_object()) throw VariantError(where + ": 'settings' must be an object of name: value");
  if (kernel != "openvino") {
    throw VariantError(where + ": 'settings' are those of openvino's runtime; kernel " + kernel + " has none");
  }
  for (const auto& [name, value] : entry.items()) {
    OneOf(name, names, "setting", where);
    const std::string here = where + ": setting '" + name + "'";
    if (name == "threads") {
      settings.threads = SettingsCount(value, here);
    } else if (name == "streams") {
      settings.streams = SettingsCount(value, here);
    } else if (!value.is_string()) {
      throw VariantError(here + ": must be a string");
    } else if (name == "inference_precision") {
      settings.inference_precision = OneOf(value, {"f32", "bf16", "f16"}, "precision", here);
    } else {
      settings.kv_cache_precision = OneOf(value, {"f32", "bf16", "f16", "u8", "u4"}, "precision", here);
    }
  }
  return settings;
}

Variant ReadVariant(const std::string& id, const Json& entry, const std::string& name) {
  const std::string where = name + ": variant " + Quoted(id);
  if (!IsIdentifier(id)) throw VariantError(where + ": an id is made of at most 64 letters, digits and '_'");
  if (!entry.is_object())
    throw VariantError(where + ": must be an object with model_name, quantization, description, format, kernel");
  Variant variant;
  variant.id = id;
  variant.model_name = RequiredText(entry, "model_name", where);
  if (!entry.contains("quantization"))
    throw VariantError(where + ": the field 'quantization' is missing; add it (null where there is none)");
  if (!entry["quantization"].is_null()) variant.quantization = RequiredText(entry, "quantization", where);
  variant.description = RequiredText(entry, "description", where);
  if (entry.contains("note")) variant.note = RequiredText(entry, "note", where);
  variant.format = OneOf(RequiredText(entry, "format", where), KnownFormats(), "format", where);
  variant.kernel = OneOf(RequiredText(entry, "kernel", where), KnownKernels(), "kernel", where);
  if ((variant.format == "openvino") != (variant.kernel == "openvino")) {
    throw VariantError(where +
                       ": format and kernel must both be 'openvino' or neither; its runtime reads no other format");
  }
  if (const auto settings = entry.find("settings"); settings != entry.end()) {
    variant.settings = ReadSettings(*settings, variant.kernel, where);
  }
  if (const auto expected = entry.find("expected"); expected != entry.end()) {
    if (!expected->is_object())
      throw VariantError(where + ": 'expected' must be an object of \"device/provider\": outcome");
    for (const auto& [key, value] : expected->items()) {
      const std::string here = where + ": expected " + Quoted(key);
      if (std::count(key.begin(), key.end(), '/') != 1) throw VariantError(here + ": write it as \"cpu/builtin\"");
      if (!value.is_string()) throw VariantError(here + ": must be a string");
      variant.expected[key] = OneOf(value.get<std::string>(), {"bit_exact", "nondeterministic"}, "outcome", here);
    }
  }
  return variant;
}

}  // namespace

std::string Variant::ExpectedOn(const std::string& device, const std::string& provider) const {
  const auto found = expected.find(device + "/" + provider);
  return found == expected.end() ? "" : found->second;
}

const std::vector<std::string>& KnownFormats() {
  static const std::vector<std::string> formats = {"awq", "gptq", "torchao", "openvino"};
  return formats;
}

const std::vector<std::string>& KnownKernels() {
  static const std::vector<std::string> kernels = {"marlin", "awq", "gptq", "tinygemm", "openvino"};
  return kernels;
}

std::vector<Variant> ReadVariants(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file)) {
    throw VariantError(name + ": cannot be read; name a table of variants with --variants-file");
  }
  const Json table = ParseWithoutDuplicates(in, name);
  if (!table.is_object()) throw VariantError(name + ": must be an object of variant id -> entry");
  std::vector<Variant> variants;
  for (const auto& [id, entry] : table.items()) variants.push_back(ReadVariant(id, entry, name));
  if (variants.empty()) throw VariantError(name + ": holds no variant; add one");
  return variants;
}

std::vector<Variant> SelectVariants(const std::vector<Variant>& variants, const std::vector<std::string>& ids) {
  if (ids.empty() || std::find(ids.begin(), ids.end(), "all") != ids.end()) return variants;
  std::vector<std::string> known;
  for (const Variant& variant : variants) known.push_back(variant.id);
  for (const std::string& id : ids) {
    if (std::find(known.begin(), known.end(), id) == known.end()) {
      throw VariantError("there is no variant " + Quoted(id) + "; there are: " + Join(known) + ", all");
    }
  }
  std::vector<Variant> selected;
  for (const Variant& variant : variants) {
    if (std::find(ids.begin(), ids.end(), variant.id) != ids.end()) selected.push_back(variant);
  }
  return selected;
}

}  // namespace suites
