// Records of runs that the tests of the reporters share.
#ifndef TESTS_REPORTERS_SAMPLE_RECORDS_H_
#define TESTS_REPORTERS_SAMPLE_RECORDS_H_

#include "reporters/record.h"

namespace reporters {

// Six repetitions of four tokens, bit-exact, every control as it must be, the
// expected kernel in the profile, deterministic mode run, all fields set.
VariantRecord BitExactRecord();

// As above, two of five comparisons differ in logprobs (one low bit each, at
// position 2 and 3), with evidence of the order of accumulation and a
// deterministic mode of twenty repetitions that ends it.
VariantRecord NondeterministicRecord();

// Non-deterministic on a GPU with a foreign kernel: a profile by CUPTI, atomic
// additions in the machine code, no twin, and a switch that does not reach it.
VariantRecord GpuRecord();

// Did not run.
VariantRecord FailedRecord();

// A report over `deviating` of `runs` runs, the first of them being run
// `runs - deviating`.
gtest_determinism::Report ReportOf(int runs, int deviating);

}  // namespace reporters

#endif  // TESTS_REPORTERS_SAMPLE_RECORDS_H_
