// How far two generations' logits lie apart.
#ifndef SUITES_MODEL_LOGIT_DISTANCE_H_
#define SUITES_MODEL_LOGIT_DISTANCE_H_

#include "suites/model/generation.h"

namespace suites {

// L2 over the elements of the rows that both have, in float64; 0 where nothing
// is compared. Computed where they lie; both lie in the same space, and have the
// same dtype and vocabulary.
double LogitDistance(const LogitRows& a, const LogitRows& b);

}  // namespace suites

#endif  // SUITES_MODEL_LOGIT_DISTANCE_H_
