// The cause of noise in words, from the evidence alone, by the rules C1 to C7 of
// docs/verdicts.md.
#ifndef REPORTERS_ROOT_CAUSE_H_
#define REPORTERS_ROOT_CAUSE_H_

#include <string>

#include "reporters/verdict.h"

namespace reporters {

struct RootCause {
  std::string rule;  // "C2"
  std::string text;
};

// Of a record whose repetitions differ. `mode`: what the deterministic mode did.
RootCause WordRootCause(const EvidenceRecord& evidence, const Intervention& mode);

}  // namespace reporters

#endif  // REPORTERS_ROOT_CAUSE_H_
