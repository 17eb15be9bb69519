// Where a variant's model is found: DESIGN's order of places.
#ifndef SUITES_INT4_MODEL_LOCATOR_H_
#define SUITES_INT4_MODEL_LOCATOR_H_

#include <filesystem>
#include <map>
#include <string>

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

// The places of this process: the environment ($QUANT_MODELS_DIR; $HF_HUB_CACHE,
// $HF_HOME/hub, else ~/.cache/huggingface/hub) and the folder of the executable.
ModelPlaces PlacesOfThisProcess();

struct LocatedModel {
  std::filesystem::path folder;
  std::string source;  // "--model-dir", "QUANT_MODELS_DIR", "huggingface_cache", "embedded"
  // What the result calls the model: the variant's model_name, or for the
  // embedded model a name of its own.
  std::string name;
  bool embedded() const { return source == "embedded"; }
};

// The first place that has the model. A folder named with --model-dir counts
// even where it is broken: the reader then says what is wrong with it. Throws
// VariantError where there is none.
LocatedModel LocateModel(const Variant& variant, const ModelPlaces& places);

}  // namespace suites

#endif  // SUITES_INT4_MODEL_LOCATOR_H_
