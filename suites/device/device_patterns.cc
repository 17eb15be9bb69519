#include "suites/device/device_patterns.h"

#include <c10/cuda/CUDAStream.h>

#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <vector>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/digest.h"

namespace suites {
namespace {

using gtest_determinism::Perturbation;

// All of them applied while it lives.
class Applied {
 public:
  Applied(const std::vector<std::shared_ptr<Perturbation>>& perturbations, int run, std::uint64_t seed) {
    for (const auto& perturbation : perturbations) {
      perturbation->Apply(run, seed);
      applied_.push_back(perturbation.get());
    }
  }
  ~Applied() {
    for (auto it = applied_.rbegin(); it != applied_.rend(); ++it) (*it)->Undo();
  }
  Applied(const Applied&) = delete;
  Applied& operator=(const Applied&) = delete;

 private:
  std::vector<Perturbation*> applied_;
};

int Distinct(std::vector<gtest_determinism::Digest>::const_iterator first,
             std::vector<gtest_determinism::Digest>::const_iterator last) {
  return static_cast<int>(std::set<gtest_determinism::Digest>(first, last).size());
}

}  // namespace

Patterns CountPatterns(const std::function<at::Tensor()>& run, const PatternOptions& options) {
  Patterns patterns;
  patterns.runs = options.runs;
  at::Tensor first;
  std::unique_ptr<gtest_determinism::CudaDigestQueue> digests;
  std::unique_ptr<gtest_determinism::CudaCompareQueue> differences;
  for (int i = 0; i < options.runs; ++i) {
    at::Tensor y;
    if (i > 0 && !options.perturbations.empty()) {
      const Applied applied(options.perturbations, i, options.seed);
      y = run().contiguous();
      c10::cuda::getCurrentCUDAStream(y.device().index()).synchronize();
    } else {
      y = run().contiguous();
    }
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(y.device().index());
    if (i == 0) {
      first = y.clone();
      digests = std::make_unique<gtest_determinism::CudaDigestQueue>(y.device().index());
      differences = std::make_unique<gtest_determinism::CudaCompareQueue>(y.device().index());
    } else if (y.nbytes() != first.nbytes()) {
      throw std::invalid_argument("CountPatterns: the result's size changes from run to run");
    }
    digests->Enqueue(y.const_data_ptr(), y.nbytes(), stream);
    differences->Enqueue(y.const_data_ptr(), first.const_data_ptr(), y.nbytes(), stream);
  }
  if (options.runs == 0) return patterns;
  const std::vector<gtest_determinism::Digest> seen = digests->Take();
  patterns.distinct = Distinct(seen.begin(), seen.end());
  for (auto ten = seen.begin() + 1; seen.end() - ten >= 10; ten += 10) {
    ++patterns.tens;
    patterns.tens_that_differ += Distinct(ten, ten + 10) > 1;
  }
  for (const std::uint64_t offset : differences->Take()) {
    patterns.deviating += offset != std::numeric_limits<std::uint64_t>::max();
  }
  return patterns;
}

}  // namespace suites
