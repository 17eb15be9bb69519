// OpenVINO's matmul with compressed INT4 weights, to compare with.
#ifndef SUITES_BENCHMARKS_OPENVINO_MATMUL_H_
#define SUITES_BENCHMARKS_OPENVINO_MATMUL_H_

#include <cstdint>
#include <memory>

namespace quant_suites {

class OpenVinoMatmul {
 public:
  virtual ~OpenVinoMatmul() = default;
  // One multiplication of its own input of m rows.
  virtual void Run(std::int64_t m) = 0;
};

// Random u4 weights [n, k] with u4 zero points and f16 scales for each group of
// 128, compiled for the CPU with `threads` threads and otherwise the runtime's
// defaults: on a CPU with bfloat16 it computes in that. Null where the runtime was not built in.
std::unique_ptr<OpenVinoMatmul> MakeOpenVinoMatmul(std::int64_t k, std::int64_t n, int threads);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_OPENVINO_MATMUL_H_
