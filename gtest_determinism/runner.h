// RunRepeated(): the engine. It knows no GoogleTest.
#ifndef GTEST_DETERMINISM_RUNNER_H_
#define GTEST_DETERMINISM_RUNNER_H_

#include "gtest_determinism/options.h"
#include "gtest_determinism/report.h"

namespace gtest_determinism {
// Report RunRepeated(callable, Options = {})
//   callable: () -> T with bits;            or (Outputs&) -> void with registered buffers
// Report RunRepeated(inputs, callable, Options = {})
//   inputs: (int index) -> Input, given with a count by Inputs(n, generator)
}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_RUNNER_H_
