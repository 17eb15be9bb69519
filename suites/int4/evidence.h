// Evidence for the cause of a difference, on the engine that showed it.
#ifndef SUITES_INT4_EVIDENCE_H_
#define SUITES_INT4_EVIDENCE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "reporters/record.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/qwen3.h"

namespace suites {

struct EvidenceOptions {
  int max_generations = 20;  // traced generations until two differ
  int replay_runs = 100;     // of the operation alone
};

// Finds the first operation of any kind whose bits differ between two
// generations and replays it alone on its inputs, frozen, also under the
// deterministic switch. Of an INT4 matmul it runs the ordered twin and compares
// the differences with the bound of re-ordered rounding, on the device that
// computes. On a GPU it lists the kernels that the operation launched and looks
// for atomic floating-point additions in their machine code (WatchModules() of
// reporters/cuda/machine_code.h must have been called before the engine was
// loaded). `checkpoint`: for the exact weights of the bound.
reporters::EvidenceRecord CollectEvidence(Qwen3Engine& engine, const Checkpoint& checkpoint,
                                          const std::vector<std::int64_t>& prompt_ids,
                                          const GenerationOptions& generation, const EvidenceOptions& options);

// The largest difference that re-ordering alone can make, for each element of
// y [M, N] = x [M, K] . w [K, N] (float32), when groups of `rows_per_partial`
// rows of K are summed in float32, rounded to fp16, and added up in fp16 in any
// order. With G partial sums, u = 2^-11 and gamma_n = n u / (1 - n u) (Higham,
// Accuracy and Stability of Numerical Algorithms, 2nd ed., section 4.2), each
// order is within gamma_{G-1} sum|p_g| of the sum of the rounded partial sums,
// and two orders within twice that; sum|p_g| <= (1+u)(1+gamma_K^{fp32}) |x|.|w|.
// Below fp16's normal range a sum is exact, so no absolute term is needed; the
// rounding of a partial sum to a subnormal is the same in every order.
at::Tensor ReorderingBound(const at::Tensor& x, const at::Tensor& w, std::int64_t rows_per_partial);

}  // namespace suites

#endif  // SUITES_INT4_EVIDENCE_H_
