#include "suites/int4/model_locator.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

namespace suites {
namespace {

namespace fs = std::filesystem;

fs::path FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? fs::path() : fs::path(value);
}

bool HoldsModel(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "config.json", ignored);
}

// models--ORG--NAME/refs/main names the revision, snapshots/REVISION holds it.
// Layout: huggingface_hub, "Understand caching".
fs::path InHubCache(const fs::path& cache, const std::string& model_name) {
  std::string folder = "models--";
  for (const char c : model_name) folder += c == '/' ? std::string("--") : std::string(1, c);
  std::ifstream ref(cache / folder / "refs" / "main");
  std::string revision;
  if (!std::getline(ref, revision) || revision.empty() || revision.find('/') != std::string::npos) return {};
  const fs::path snapshot = cache / folder / "snapshots" / revision;
  return HoldsModel(snapshot) ? snapshot : fs::path();
}

}  // namespace

ModelPlaces PlacesOfThisProcess() {
  ModelPlaces places;
  places.models_dir = FromEnvironment("QUANT_MODELS_DIR");
  if (const fs::path cache = FromEnvironment("HF_HUB_CACHE"); !cache.empty()) {
    places.hub_cache = cache;
  } else if (const fs::path home = FromEnvironment("HF_HOME"); !home.empty()) {
    places.hub_cache = home / "hub";
  } else if (const fs::path user = FromEnvironment("HOME"); !user.empty()) {
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
    return {given->second, "--model-dir", variant.model_name};
  }
  if (!places.models_dir.empty()) {
    const std::string base = variant.model_name.substr(variant.model_name.rfind('/') + 1);
    for (const std::string& name : {variant.id, variant.model_name, base}) {
      if (HoldsModel(places.models_dir / name))
        return {places.models_dir / name, "QUANT_MODELS_DIR", variant.model_name};
    }
  }
  if (!places.hub_cache.empty()) {
    if (const fs::path snapshot = InHubCache(places.hub_cache, variant.model_name); !snapshot.empty()) {
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
