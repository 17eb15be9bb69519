// What the assertions ask of GoogleTest's state.
#ifndef GTEST_DETERMINISM_INTERNAL_GOOGLETEST_ADAPTOR_H_
#define GTEST_DETERMINISM_INTERNAL_GOOGLETEST_ADAPTOR_H_

#include <string>

#include "gtest_determinism/report.h"
#include "gtest_determinism/result_sink.h"

namespace gtest_determinism::internal {

// The command that runs the current test again with this many runs and this
// seed; fewer than 2 runs leave them out. "" where the program's name is not known.
std::string RerunCommand(int runs, std::uint64_t seed);

// Fills in the current test and the index, records the properties, publishes.
void PublishReport(PublishedReport published);

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_GOOGLETEST_ADAPTOR_H_
