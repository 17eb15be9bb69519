#include "suites/benchmarks/openvino_matmul.h"

namespace quant_suites {

std::unique_ptr<OpenVinoMatmul> MakeOpenVinoMatmul(std::int64_t, std::int64_t, int) { return nullptr; }

}  // namespace quant_suites
