// --dump-logits: float32 logits for comparison with other engines.
#ifndef SUITES_INT4_LOGIT_DUMP_H_
#define SUITES_INT4_LOGIT_DUMP_H_

#include <filesystem>

#include "suites/model/generation.h"

namespace suites {

// Writes a safetensors file with `prompt_logits` [prompt, vocab] and
// `step_logits` [steps, vocab], float32, row by row, under a temporary name
// that is then renamed. An existing file is replaced. Throws CheckpointError,
// and leaves nothing behind.
void DumpLogits(const std::filesystem::path& file, const Generation& generation);

}  // namespace suites

#endif  // SUITES_INT4_LOGIT_DUMP_H_
