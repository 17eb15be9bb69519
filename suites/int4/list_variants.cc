#include "suites/int4/list_variants.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ostream>

#include "suites/int4/cuda_device.h"

namespace suites {
namespace {

namespace fs = std::filesystem;

std::string SizeOfFolder(const fs::path& folder) {
  std::error_code error;
  std::uintmax_t bytes = 0;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code unreadable;
    const std::uintmax_t size = entry->is_regular_file(unreadable) ? entry->file_size(unreadable) : 0;
    if (!unreadable) bytes += size;
  }
  std::array<char, 32> text{};
  const double megabytes = static_cast<double>(bytes) / 1e6;
  std::snprintf(text.data(), text.size(), megabytes < 1000 ? "%.1f MB" : "%.2f GB",
                megabytes < 1000 ? megabytes : megabytes / 1000);
  return text.data();
}

// The table's word for where a variant would run: "cuda/vllm".
std::string PlaceOf(const Variant& variant, const std::string& device, const std::string& provider) {
  if (variant.kernel == "openvino") return "cpu/openvino";
  const std::string kind = KindOfDevice(device);
  if (variant.kernel == "tinygemm") return kind + "/aten";
  return kind + "/" + (kind == "cuda" && provider == "vllm" ? "vllm" : "builtin");
}

}  // namespace

void ListVariants(std::ostream& out, const std::vector<Variant>& variants, const ModelPlaces& places,
                  const std::string& device, const std::string& provider) {
  std::vector<std::array<std::string, 6>> rows = {{"variant", "model", "quantization", "kernel", "expected", "found"}};
  for (const Variant& variant : variants) {
    std::string found;
    try {
      const LocatedModel model = LocateModel(variant, places);
      found = model.source + ": " + (model.embedded() ? "tiny_qwen3" : model.folder.string()) + ", " +
              SizeOfFolder(model.folder);
      std::string lacks;
      for (const std::string& name : MissingFiles(model.folder)) lacks += (lacks.empty() ? ", lacks " : ", ") + name;
      found += lacks;
    } catch (const VariantError&) {
      found = "missing";
    }
    const std::string place = PlaceOf(variant, device, provider);
    const auto expected = variant.expected.find(place);
    rows.push_back({variant.id, variant.model_name, variant.quantization.empty() ? "-" : variant.quantization,
                    variant.kernel,
                    place + ": " + (expected == variant.expected.end() ? "not stated" : expected->second), found});
  }
  std::array<std::size_t, 6> widths{};
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    out << line << '\n';
  }
}

}  // namespace suites
