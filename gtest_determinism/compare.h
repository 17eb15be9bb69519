// Comparison of two traces, part by part and byte by byte.
#ifndef GTEST_DETERMINISM_COMPARE_H_
#define GTEST_DETERMINISM_COMPARE_H_

#include <optional>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/report.h"

namespace gtest_determinism {

// Nothing if both have the same parts in the same order with the same names,
// dtypes, shapes and bytes. Else the first part that differs, and how many do;
// `run` and `input` are left unset.
std::optional<Divergence> CompareTraces(const Trace& expected, const Trace& actual);

namespace internal {

// Whether CompareTraces() would return nothing; what differs is not looked at
// any closer, so that bytes stay in their space.
bool HaveSameBits(const Trace& expected, const Trace& actual);

// For traces whose digests differ where the bytes of `expected` were not kept:
// the first part whose name or form differs, else no part (part_index -1).
Divergence DescribeDifferentDigests(const Trace& expected, const Trace& actual);

}  // namespace internal
}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_COMPARE_H_
