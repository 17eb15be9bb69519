// In place of attention_prefill.cu where the device code is not built for sm_90a.
#include <stdexcept>

#include "suites/model/cuda/launch.h"

namespace suites::internal {

void LaunchPrefillAttention(Precision /*precision*/, const PrefillAttentionArgs& /*args*/, cudaStream_t /*stream*/) {
  throw std::runtime_error("attention: this build has no code for sm_90a");
}

bool AttendsPromptsItself(Precision /*precision*/, int /*head_dim*/) { return false; }

}  // namespace suites::internal
