#include "suites/op_test/perturbation_names.h"

#include <stdexcept>

#include "gtest_determinism/perturbations.h"

namespace suites::op_test {

std::vector<std::string_view> PerturbationNames() { return {"allocator_poison", "competing_load"}; }

std::shared_ptr<gtest_determinism::Perturbation> MakePerturbation(const std::string& name, const std::string& device) {
  (void)device;
  if (name == "allocator_poison") return gtest_determinism::AllocatorPoison();
  if (name == "competing_load") return gtest_determinism::CompetingLoad();
  throw std::invalid_argument("there is no perturbation " + name);
}

}  // namespace suites::op_test
