#ifndef SUITES_STARTUP_CORES_H_
#define SUITES_STARTUP_CORES_H_

namespace suites {

// CPUs that this thread may run on, at least 1. std::thread::hardware_concurrency()
// counts those of the machine, also under taskset.
int UsableCores();

}  // namespace suites

#endif  // SUITES_STARTUP_CORES_H_
