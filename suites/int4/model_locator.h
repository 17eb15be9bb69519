// Where a variant's model is found: DESIGN's order of places.
#ifndef SUITES_INT4_MODEL_LOCATOR_H_
#define SUITES_INT4_MODEL_LOCATOR_H_

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "suites/int4/variant.h"

namespace suites {

struct ModelPlaces {
  std::map<std::string, std::filesystem::path> by_variant;  // --model-dir VARIANT=PATH
  std::filesystem::path models_dir;                         // $QUANT_MODELS_DIR; empty: not set
  std::filesystem::path hub_cache;                          // the Hugging Face hub cache; empty: none
  std::filesystem::path embedded;                           // holds one folder for each format
};

// Only the embedded model: what --embedded asks for.
ModelPlaces EmbeddedOnly(ModelPlaces places);

// The places of this process: the environment ($QUANT_MODELS_DIR; the hub cache as
// huggingface_hub finds it: $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub,
// $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; a leading ~ is
// $HOME) and the folder of the executable.
ModelPlaces PlacesOfThisProcess();

// A model of the hub: "Qwen/Qwen3-8B-AWQ", or with "@REVISION" a branch, a tag, a
// commit or at least the first seven digits of one.
struct HubName {
  std::string model;
  std::string revision = "main";
};
HubName ParseHubName(std::string_view text);

// Its snapshot in a hub cache, models--ORG--NAME/snapshots/COMMIT, with COMMIT from
// refs/REVISION; empty where the cache has none, or one without config.json or
// without any weights (asking for a tokenizer leaves such). One that was not
// downloaded to the end counts: see MissingFiles().
std::filesystem::path InHubCache(const std::filesystem::path& cache, const HubName& name);

// What a model folder lacks, by name, sorted: config.json, weights, shards that its
// index names, tokenizer.json, and links that lead nowhere.
std::vector<std::string> MissingFiles(const std::filesystem::path& folder);

struct LocatedModel {
  std::filesystem::path folder;
  std::string source;  // "--model-dir", "QUANT_MODELS_DIR", "huggingface_cache", "embedded"
  // What the result calls the model: the variant's model_name, or for the
  // embedded model a name of its own.
  std::string name;
  bool embedded() const { return source == "embedded"; }
};

// The first place that has the model. What --model-dir names is a folder, which
// counts even where it is broken (the reader then says what is wrong with it), or,
// where there is no such folder, the name of a model in the hub cache. A variant's
// model_name may carry an @REVISION; it concerns the hub cache only. Throws
// VariantError where there is none.
LocatedModel LocateModel(const Variant& variant, const ModelPlaces& places);

}  // namespace suites

#endif  // SUITES_INT4_MODEL_LOCATOR_H_
