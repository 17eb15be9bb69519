// The token ids that a variant is run on.
#ifndef SUITES_INT4_PROMPT_H_
#define SUITES_INT4_PROMPT_H_

#include <cstdint>
#include <filesystem>
#include <vector>

#include "suites/int4/command_line.h"
#include "suites/int4/model_locator.h"

namespace suites {

// The default text, cut: for the embedded model, and for a real one.
inline constexpr std::int64_t kEmbeddedPromptTokens = 256;
inline constexpr std::int64_t kRealPromptTokens = 2048;

// Ids as a JSON list of integers. Throws VariantError or CheckpointError that
// names the file.
std::vector<std::int64_t> ReadIds(const std::filesystem::path& file);

// The prompt's ids by the model's own tokenizer. --prompt-ids are taken as they
// are, --prompt and --prompt-file as plain text; the default text goes through
// the chat template where the model is a real one and is cut to the lengths
// above. --prompt-length cuts further. Throws VariantError (no token left, a
// file that cannot be read), CheckpointError (no usable tokenizer).
std::vector<std::int64_t> BuildPrompt(const SuiteOptions& options, const LocatedModel& model,
                                      const std::filesystem::path& default_prompt_file);

}  // namespace suites

#endif  // SUITES_INT4_PROMPT_H_
