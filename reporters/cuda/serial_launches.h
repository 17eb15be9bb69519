// One launch at a time: an intervention that ends what comes of a missing order
// between launches.
#ifndef REPORTERS_CUDA_SERIAL_LAUNCHES_H_
#define REPORTERS_CUDA_SERIAL_LAUNCHES_H_

#include <memory>
#include <string>

namespace reporters {

// While it is active, each call that launches a kernel or a graph, copies or
// fills, of any thread, waits for the current device before it returns. What
// runs side by side within one graph still does. No stream may be captured
// meanwhile. One at a time.
class SerialLaunches {
 public:
  SerialLaunches();
  ~SerialLaunches();
  SerialLaunches(const SerialLaunches&) = delete;
  SerialLaunches& operator=(const SerialLaunches&) = delete;
  bool active() const { return reason_.empty(); }
  const std::string& reason() const { return reason_; }  // why it is not

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string reason_;
};

}  // namespace reporters

#endif  // REPORTERS_CUDA_SERIAL_LAUNCHES_H_
