// at::Tensor has bits. Target gtest_determinism::torch.
#ifndef GTEST_DETERMINISM_TORCH_H_
#define GTEST_DETERMINISM_TORCH_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <string_view>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/options.h"

namespace gtest_determinism {

// One part with the tensor's dtype and sizes, in row-major order: a tensor that
// is not contiguous, or is a lazy conjugate or negative, is copied where it lies.
// Complex numbers are pairs of floats, with an extent of 2 at the end; dtypes
// that DType does not name (float8) are opaque bytes, with an extent of their
// size at the end where it is more than 1. A tensor on a GPU is a view of its
// memory there, in CudaMemory() (cuda.h); the current stream of its device is
// waited for.
// Throws std::invalid_argument, one line, for a tensor that is undefined,
// sparse, quantized, on another kind of device, or on a GPU where this library
// was built without device code.
void AppendBits(Trace& trace, std::string_view name, const at::Tensor& tensor);

// Before a run the blocks that torch's caching allocator holds free on GPU `device`,
// for the current stream, are filled with a byte that changes from run to run. Where
// it holds less than 32 MiB, 64 MiB in blocks of each power of two come on top, so
// that it does not grow from run to run. Memory of graphs is not reached. See
// WorkspacePoison() in cuda_perturbations.h. Throws std::invalid_argument where this
// library was built without device code.
std::shared_ptr<Perturbation> TorchWorkspacePoison(int device = 0);

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_TORCH_H_
