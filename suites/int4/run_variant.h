// One variant, from its model on disk to its record.
#ifndef SUITES_INT4_RUN_VARIANT_H_
#define SUITES_INT4_RUN_VARIANT_H_

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "reporters/record.h"
#include "suites/int4/command_line.h"
#include "suites/int4/engine_loader.h"
#include "suites/int4/model_locator.h"
#include "suites/int4/variant.h"

namespace suites {

struct RunContext {
  SuiteOptions options;
  ModelPlaces places;
  std::filesystem::path default_prompt_file;
  std::vector<std::string> argv;
  // Told what is being done: (phase, done, of); `of` is 0 where it has no count.
  std::function<void(const std::string& phase, int done, int of)> progress;
  // The seam for tests: how an engine comes to be.
  std::function<LoadedEngine(const Variant&, const LocatedModel&, const SuiteOptions&, Mode, const LoadProgress&)>
      load_engine = LoadEngine;
};

struct VariantResult {
  reporters::VariantRecord record;
  // What failed beside the verdict (the dump of the logits), one line each. The
  // record stands.
  std::vector<std::string> problems;
};

// Loads, warms up, repeats, controls, profiles, looks for evidence where the
// repetitions differ, frees, reloads in deterministic mode and repeats again.
// Never throws. What goes wrong up to the end of the baseline is `error` of a
// record whose `success` is false. After that the baseline is kept: a control
// that fails is not as expected, a profile that fails is unavailable, evidence
// that fails was not looked at, deterministic mode has an `error` of its own.
VariantResult RunVariant(const Variant& variant, const RunContext& context);

}  // namespace suites

#endif  // SUITES_INT4_RUN_VARIANT_H_
