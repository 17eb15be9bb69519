// The table of variants: suites/variants.json.
#ifndef SUITES_INT4_VARIANT_H_
#define SUITES_INT4_VARIANT_H_

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace suites {

// One line that names the file, the entry and what is wrong with it.
class VariantError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What a table may ask of a runtime that has settings (openvino); 0 and "": its own choice.
struct RuntimeSettings {
  int threads = 0;
  int streams = 0;
  std::string inference_precision;  // "f32", "bf16", "f16"
  std::string kv_cache_precision;   // these, "u8", "u4"
};

struct Variant {
  std::string id;            // "awq_marlin"
  std::string model_name;    // "Qwen/Qwen3-8B-AWQ"
  std::string quantization;  // as the user's document has it; "" for null
  std::string description;
  std::string note;
  std::string format;  // on disk: "awq", "gptq", "torchao", "openvino"
  std::string kernel;  // family: "marlin", "awq", "gptq", "tinygemm", "openvino"
  // "device/provider" -> "bit_exact" or "nondeterministic".
  std::map<std::string, std::string> expected;
  RuntimeSettings settings;

  // The expectation for a device and provider, "" where the table has none.
  std::string ExpectedOn(const std::string& device, const std::string& provider) const;
};

// The formats and kernel families that a table may name.
const std::vector<std::string>& KnownFormats();
const std::vector<std::string>& KnownKernels();

// Reads a table: an object of id -> entry, in the order of the file. Throws
// VariantError: no such file, not JSON, no entry, a missing field, a field of
// the wrong type, an unknown format, kernel, expectation or setting, settings of
// a kernel that has none, an id that is no identifier or comes twice.
std::vector<Variant> ReadVariants(const std::filesystem::path& file);

// The variants with these ids, in the order of the table; "all" stands for all.
// Throws VariantError with the ids that exist.
std::vector<Variant> SelectVariants(const std::vector<Variant>& variants, const std::vector<std::string>& ids);

}  // namespace suites

#endif  // SUITES_INT4_VARIANT_H_
