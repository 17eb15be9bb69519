#include "suites/int4/model_locator.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "suites/checkpoint/json_file.h"

namespace suites {
namespace {

namespace fs = std::filesystem;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

fs::path PathFromEnvironment(const char* name) {
  const std::string value = Environment(name);
  if (value == "~" || value.starts_with("~/"))
    return fs::path(Environment("HOME")) / value.substr(std::min<std::size_t>(value.size(), 2));
  return value;
}

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);  // follows links
}

bool HoldsModel(const fs::path& folder) { return Exists(folder / "config.json"); }

constexpr std::array kIndexes = {"model.safetensors.index.json", "pytorch_model.bin.index.json"};
constexpr std::array kWeights = {"model.safetensors", "pytorch_model.bin", "openvino_model.xml"};

// Whole or in part.
bool HoldsWeights(const fs::path& folder) {
  const auto there = [&](const char* name) { return Exists(folder / name); };
  if (std::any_of(kWeights.begin(), kWeights.end(), there) || std::any_of(kIndexes.begin(), kIndexes.end(), there)) {
    return true;
  }
  // AutoGPTQ's name for them: gptq_model-4bit-128g.safetensors.
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".safetensors" && Exists(entry->path())) return true;
  }
  return false;
}

bool IsHexadecimal(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A folder name that cannot lead elsewhere.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\") == std::string_view::npos;
}

// The commit that a revision stands for; "" where the cache does not know it.
std::string CommitOf(const fs::path& model, const std::string& revision) {
  // A revision may contain slashes ("refs/pr/3"), but does not lead out of refs.
  const fs::path relative = fs::path(revision).lexically_normal();
  if (!revision.empty() && relative.is_relative() && *relative.begin() != "..") {
    std::ifstream ref(model / "refs" / relative);
    std::string commit;
    ref >> commit;
    if (!commit.empty()) return IsPlainName(commit) ? commit : "";
  }
  if (revision.size() < 7 || !IsHexadecimal(revision)) return "";
  std::string found;
  std::error_code error;
  for (fs::directory_iterator entry(model / "snapshots", error), end; !error && entry != end; entry.increment(error)) {
    const std::string commit = entry->path().filename().string();
    if (!commit.starts_with(revision)) continue;
    if (!found.empty()) return "";  // of two, neither
    found = commit;
  }
  return found;
}

// ORG/NAME or NAME as the hub allows them, not a path.
bool LooksLikeHubName(const std::string& model) {
  if (model.empty() || model[0] == '.' || model[0] == '~' || std::count(model.begin(), model.end(), '/') > 1)
    return false;
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
  };
  return model.front() != '/' && model.back() != '/' && std::all_of(model.begin(), model.end(), allowed);
}

LocatedModel LocateGiven(const Variant& variant, const fs::path& given, const fs::path& hub_cache) {
  const HubName hub = ParseHubName(given.string());
  if (Exists(given) || hub_cache.empty() || !LooksLikeHubName(hub.model)) {
    return {given, "--model-dir", variant.model_name};
  }
  if (const fs::path snapshot = InHubCache(hub_cache, hub); !snapshot.empty()) {
    return {snapshot, "--model-dir", given.string()};
  }
  throw VariantError("--model-dir " + variant.id + "=" + given.string() +
                     ": no such folder, and the Hugging Face cache " + hub_cache.string() + " has no model " +
                     hub.model + " at revision " + hub.revision + "; give a folder, or download it with: hf download " +
                     hub.model + (hub.revision == "main" ? "" : " --revision " + hub.revision));
}

}  // namespace

HubName ParseHubName(std::string_view text) {
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos || at + 1 == text.size()) return {std::string(text.substr(0, at))};
  return {std::string(text.substr(0, at)), std::string(text.substr(at + 1))};
}

// Layout: huggingface_hub, "Understand caching".
fs::path InHubCache(const fs::path& cache, const HubName& name) {
  std::string folder = "models--";
  for (const char c : name.model) folder += c == '/' ? std::string("--") : std::string(1, c);
  if (name.model.empty() || !IsPlainName(folder)) return {};
  const std::string commit = CommitOf(cache / folder, name.revision);
  if (commit.empty()) return {};
  const fs::path snapshot = cache / folder / "snapshots" / commit;
  return HoldsModel(snapshot) && HoldsWeights(snapshot) ? snapshot : fs::path();
}

std::vector<std::string> MissingFiles(const fs::path& folder) {
  std::set<std::string> missing;
  for (const char* name : {"config.json", "tokenizer.json"}) {
    if (!Exists(folder / name)) missing.insert(name);
  }
  if (!HoldsWeights(folder)) missing.insert("weights");
  if (Exists(folder / "openvino_model.xml") && !Exists(folder / "openvino_model.bin"))
    missing.insert("openvino_model.bin");
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!Exists(entry->path())) missing.insert(entry->path().filename().string());
  }
  for (const std::string name : kIndexes) {
    // A whole file is taken before an index.
    if (!Exists(folder / name) || Exists(folder / name.substr(0, name.find(".index")))) continue;
    try {
      const nlohmann::json index = ReadJsonFile(folder / name);
      for (const auto& [tensor, file] : index.at("weight_map").items()) {
        const auto& shard = file.get_ref<const std::string&>();
        if (!IsPlainName(shard) || !Exists(folder / shard)) missing.insert(shard);
      }
    } catch (const std::exception&) {
      missing.insert(std::string(name) + " (unreadable)");
    }
  }
  return {missing.begin(), missing.end()};
}

ModelPlaces PlacesOfThisProcess() {
  ModelPlaces places;
  places.models_dir = PathFromEnvironment("QUANT_MODELS_DIR");
  if (const fs::path cache = PathFromEnvironment("HF_HUB_CACHE"); !cache.empty()) {
    places.hub_cache = cache;
  } else if (const fs::path older = PathFromEnvironment("HUGGINGFACE_HUB_CACHE"); !older.empty()) {
    places.hub_cache = older;
  } else if (const fs::path home = PathFromEnvironment("HF_HOME"); !home.empty()) {
    places.hub_cache = home / "hub";
  } else if (const fs::path caches = PathFromEnvironment("XDG_CACHE_HOME"); !caches.empty()) {
    places.hub_cache = caches / "huggingface" / "hub";
  } else if (const fs::path user = PathFromEnvironment("HOME"); !user.empty()) {
    places.hub_cache = user / ".cache" / "huggingface" / "hub";
  }
  std::error_code error;
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
  if (!error) places.embedded = executable.parent_path().parent_path() / "models" / "tiny_qwen3";
  return places;
}

ModelPlaces EmbeddedOnly(ModelPlaces places) {
  places.by_variant.clear();
  places.models_dir.clear();
  places.hub_cache.clear();
  return places;
}

LocatedModel LocateModel(const Variant& variant, const ModelPlaces& places) {
  if (const auto given = places.by_variant.find(variant.id); given != places.by_variant.end()) {
    return LocateGiven(variant, given->second, places.hub_cache);
  }
  const HubName hub = ParseHubName(variant.model_name);
  if (!places.models_dir.empty()) {
    const std::string base = hub.model.substr(hub.model.rfind('/') + 1);
    for (const std::string& name : {variant.id, hub.model, base}) {
      if (HoldsModel(places.models_dir / name)) {
        return {places.models_dir / name, "QUANT_MODELS_DIR", variant.model_name};
      }
    }
  }
  if (!places.hub_cache.empty()) {
    if (const fs::path snapshot = InHubCache(places.hub_cache, hub); !snapshot.empty()) {
      return {snapshot, "huggingface_cache", variant.model_name};
    }
  }
  if (!places.embedded.empty() && HoldsModel(places.embedded / variant.format)) {
    return {places.embedded / variant.format, "embedded", "tiny_qwen3-" + variant.format + " (embedded)"};
  }
  throw VariantError("no model for variant '" + variant.id +
                     "': neither --model-dir, $QUANT_MODELS_DIR nor the Hugging Face cache has " + variant.model_name +
                     ", and the embedded model was not built; build the target embedded_models");
}

}  // namespace suites
