// A loop over threads.
#ifndef SUITES_QUANTIZE_PARALLEL_H_
#define SUITES_QUANTIZE_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace suites::quantize {

// Calls body(0) ... body(count - 1), in any order, from at most `threads`
// threads (0: as many as there are cores). The first exception stops the loop
// and is thrown here.
void ParallelFor(int threads, std::int64_t count, const std::function<void(std::int64_t)>& body);

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_PARALLEL_H_
