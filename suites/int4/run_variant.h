// One variant, from its model on disk to its record.
#ifndef SUITES_INT4_RUN_VARIANT_H_
#define SUITES_INT4_RUN_VARIANT_H_

#include <filesystem>
#include <functional>
#include <string>

#include "reporters/record.h"
#include "suites/int4/command_line.h"
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
};

// Loads, warms up, repeats, controls, profiles, looks for evidence where the
// repetitions differ, frees, reloads in deterministic mode and repeats again.
// Never throws: what goes wrong is `error` of a record whose `success` is
// false; what goes wrong in deterministic mode alone is that mode's `error`.
reporters::VariantRecord RunVariant(const Variant& variant, const RunContext& context);

}  // namespace suites

#endif  // SUITES_INT4_RUN_VARIANT_H_
