#ifndef SUITES_STARTUP_OPENMP_WAIT_H_
#define SUITES_STARTUP_OPENMP_WAIT_H_

namespace suites {

// libgomp's idle threads spin for milliseconds after each parallel region, and on a
// machine with few cores that starves whoever needs them next: OpenVINO, other
// processes. Where they soon sleep, each region of a decode step waits for them to
// wake. Sets GOMP_SPINCOUNT to some tenths of a millisecond's worth, unless
// GOMP_SPINCOUNT or OMP_WAIT_POLICY is set, and starts the program again, since libgomp
// reads it when it is loaded. To be called first in main(); returns where there is
// nothing to do. The variable is in the result's environment. It changes times, and of
// bits only those that depend on the order in which threads arrive.
void LimitOpenMpSpinning(char** argv);

}  // namespace suites

#endif  // SUITES_STARTUP_OPENMP_WAIT_H_
