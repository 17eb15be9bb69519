#include "suites/startup/openmp_wait.h"

#include <unistd.h>

#include <cstdlib>

namespace suites {

void LimitOpenMpSpinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "4000", /*overwrite=*/1);
  execv("/proc/self/exe", argv);
  // It could not be started again; slower, but all the same.
}

}  // namespace suites
