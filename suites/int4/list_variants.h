#ifndef SUITES_INT4_LIST_VARIANTS_H_
#define SUITES_INT4_LIST_VARIANTS_H_

#include <iosfwd>
#include <string>
#include <vector>

#include "suites/int4/model_locator.h"

namespace suites {

// The table of --list-variants: id, model, quantization, kernel, what is expected
// of it on `device` ("cpu", "cuda:N") with the kernels of `provider` ("auto",
// "builtin", "vllm"), where its model was found and how large it is.
void ListVariants(std::ostream& out, const std::vector<Variant>& variants, const ModelPlaces& places,
                  const std::string& device, const std::string& provider);

}  // namespace suites

#endif  // SUITES_INT4_LIST_VARIANTS_H_
