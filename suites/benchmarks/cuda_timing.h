// Times on a CUDA device by events, and what the device can do at most.
#ifndef SUITES_BENCHMARKS_CUDA_TIMING_H_
#define SUITES_BENCHMARKS_CUDA_TIMING_H_

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

#include "suites/benchmarks/interleaved.h"
#include "suites/device/captured_graph.h"

namespace quant_suites {

// Calls in one graph, timed as a whole. On a stream that others use in the same
// round, so that the launch of a graph hides behind the one before it.
class GraphTimer {
 public:
  // Captures all of `calls`, `turns` times over, on the current device. Throws
  // what they throw.
  GraphTimer(const std::vector<std::function<void()>>& calls, int turns);
  ~GraphTimer();
  GraphTimer(const GraphTimer&) = delete;
  GraphTimer& operator=(const GraphTimer&) = delete;

  // One replay between two events; returns at once.
  void Start(cudaStream_t stream) const;
  // Of one call in the last replay, which must have ended.
  double Microseconds() const;

 private:
  suites::CapturedGraph graph_;
  double calls_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Interleaved rounds on `stream`, which GraphTimers of the contenders start on. The
// device is held up while a round is launched, so that it never waits for the host.
std::vector<std::vector<double>> MeasureOnStream(const std::vector<Contender>& contenders, int rounds,
                                                 cudaStream_t stream);

// Of the current device: a read of 2 GiB, and at::mm in fp16 (cuBLAS) of 4096 and
// of 8192 cubed, the quicker of the two; beside them kernels of one idle thread.
// Medians of interleaved rounds. Measured at the first call, kept for the process.
const Ceilings& DeviceCeilings();
std::string DeviceName();

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_CUDA_TIMING_H_
