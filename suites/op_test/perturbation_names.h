// Perturbations that a description can name.
#ifndef SUITES_OP_TEST_PERTURBATION_NAMES_H_
#define SUITES_OP_TEST_PERTURBATION_NAMES_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gtest_determinism/options.h"

namespace suites::op_test {

std::vector<std::string_view> PerturbationNames();

// One of PerturbationNames(), for a device "cpu", "cuda" or "cuda:N". Throws
// std::invalid_argument, one line, where it does not go with that device.
std::shared_ptr<gtest_determinism::Perturbation> MakePerturbation(const std::string& name, const std::string& device);

}  // namespace suites::op_test

#endif  // SUITES_OP_TEST_PERTURBATION_NAMES_H_
