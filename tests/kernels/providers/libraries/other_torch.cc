// As if built for another torch: its registration calls a function that no torch has.
#include <torch/library.h>

namespace at {
int a_function_of_another_torch();
}

TORCH_LIBRARY(determinism_other_torch, library) {
  if (at::a_function_of_another_torch() != 0) library.def("nothing(Tensor x) -> Tensor");
}
