// One decode step as a CUDA graph.
#ifndef SUITES_MODEL_CUDA_DECODE_GRAPH_H_
#define SUITES_MODEL_CUDA_DECODE_GRAPH_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

#include "suites/model/cuda/launch.h"
#include "suites/model/generation.h"

namespace suites::internal {

// The operations of a captured step and where their outputs lie: each in memory
// of its own, so that all of them can be digested at the end of the step.
struct StepRecord {
  std::vector<OpSite> sites;
  std::vector<DigestPiece> pieces;
  std::vector<at::Tensor> kept;
};

class DecodeGraph {
 public:
  // Captures what `record` launches on `stream`, the current one, which must not
  // be the default stream. What it allocates comes from a pool that lives as long
  // as the graph. Throws std::runtime_error, and what `record` throws.
  DecodeGraph(const c10::cuda::CUDAStream& stream, const std::function<void()>& record);
  ~DecodeGraph();
  DecodeGraph(const DecodeGraph&) = delete;
  DecodeGraph& operator=(const DecodeGraph&) = delete;

  void Launch(cudaStream_t stream) const;

  StepRecord step;          // of a traced step
  at::Tensor digest_table;  // its pieces, on the device

 private:
  c10::DeviceIndex device_;
  c10::MempoolId_t pool_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

// Throws std::runtime_error: `what`, and the error's text.
void CheckCudaCall(cudaError_t error, const char* what);

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_DECODE_GRAPH_H_
