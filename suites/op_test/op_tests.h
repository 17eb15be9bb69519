// Described tests as GoogleTest tests.
#ifndef SUITES_OP_TEST_OP_TESTS_H_
#define SUITES_OP_TEST_OP_TESTS_H_

#include <string>
#include <vector>

#include "suites/op_test/description.h"

namespace suites::op_test {

// "gptq_gemm.run_to_run/m_1_n_256" for each; one that is expected to be
// non-deterministic passes only where a difference is seen.
void RegisterOpTests(const std::vector<OpTest>& tests);

}  // namespace suites::op_test

#endif  // SUITES_OP_TEST_OP_TESTS_H_
