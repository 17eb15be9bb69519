// What a result may depend on, of this process and machine.
#ifndef REPORTERS_ENVIRONMENT_H_
#define REPORTERS_ENVIRONMENT_H_

#include <string>
#include <utility>
#include <vector>

#include "reporters/record.h"

namespace reporters {

// cpu, cpus (that this process may run on), os, kernel, compiler, build_type,
// build_flags, git_revision (of the build) and git_dirty ("true" where tracked
// files differed from it); then `values` as given: versions of
// libtorch and OpenVINO, threads, GPU and driver, which this library cannot
// know. Variables: those of OMP_*, MKL_*, KMP_*, CUDA_*, CUBLAS_*, TORCH_*,
// PYTORCH_*, ATEN_*, OPENVINO_*, OV_*, ONEDNN_*, DNNL_*, DETERMINISM_*,
// QUANT_*, GTEST_* and a few by name that are set.
Environment CollectEnvironment(std::vector<std::string> argv,
                               std::vector<std::pair<std::string, std::string>> values = {});

}  // namespace reporters

#endif  // REPORTERS_ENVIRONMENT_H_
