// Operators with the names of vLLM's, and other arguments.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(_C, library) {
  library.def("awq_gemm(Tensor x, Tensor words) -> Tensor");
  library.def("awq_dequantize(Tensor words) -> Tensor");
}
