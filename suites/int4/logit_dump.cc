#include "suites/int4/logit_dump.h"

#include <span>
#include <string>
#include <vector>

#include "suites/checkpoint/safetensors.h"

namespace suites {

void DumpLogits(const std::filesystem::path& file, const Generation& generation) {
  const LogitRows* const parts[] = {&generation.prompt_logits, &generation.step_logits};
  SafetensorsWriter writer(file, {{"prompt_logits", "F32", {parts[0]->rows, parts[0]->vocab}},
                                  {"step_logits", "F32", {parts[1]->rows, parts[1]->vocab}}});
  for (const LogitRows* logits : parts) {
    for (std::int64_t row = 0; row < logits->rows; ++row) {
      const std::vector<float> values = logits->Row(row);
      writer.Append(std::as_bytes(std::span(values)));
    }
  }
  writer.Finish();
}

}  // namespace suites
