#ifndef TESTS_CUDA_FAULTS_CHECK_H_
#define TESTS_CUDA_FAULTS_CHECK_H_

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace cuda_faults {

inline void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

}  // namespace cuda_faults

#endif  // TESTS_CUDA_FAULTS_CHECK_H_
