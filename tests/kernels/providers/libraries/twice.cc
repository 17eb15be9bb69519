// Registers an operator that PyTorch has.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(aten, library) { library.def("mm(Tensor self, Tensor mat2) -> Tensor"); }
