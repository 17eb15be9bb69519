// at::Tensor over the bytes of a safetensors file.
#ifndef SUITES_CHECKPOINT_TENSOR_VIEW_H_
#define SUITES_CHECKPOINT_TENSOR_VIEW_H_

#include <ATen/core/Tensor.h>

#include <string>

#include "suites/checkpoint/safetensors.h"

namespace suites {

// A contiguous CPU tensor that shares the bytes of `stored` and keeps their
// mapping alive. The memory is mapped read-only: writing to the tensor faults.
// Bytes that are not aligned to their element, which the format allows, are
// copied. `name` is for errors. Throws CheckpointError for a dtype that libtorch
// lacks.
at::Tensor TensorView(const std::string& name, const StoredTensor& stored);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_TENSOR_VIEW_H_
