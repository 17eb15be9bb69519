// The one place that talks to CUPTI's callback interface, which allows a process
// one subscriber. Only in builds with device code.
#ifndef REPORTERS_CUDA_INTERNAL_CUPTI_CLIENT_H_
#define REPORTERS_CUDA_INTERNAL_CUPTI_CLIENT_H_

#include <cupti.h>

#include <string>

namespace reporters::internal {

// "" where CUPTI may be used; else why not, one line: DETERMINISM_NO_CUPTI, no
// driver, no device, another client.
std::string WhyNoCupti();

// The process's subscription, held while at least one Subscription lives.
// Throws std::runtime_error, one line.
class Subscription {
 public:
  Subscription();
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;
  void Enable(CUpti_CallbackDomain domain, CUpti_CallbackId id, bool enable) const;
};

// Told of every enabled callback of the domain, on the thread that makes the
// call; nullptr: none. At most one handler for a domain.
using CallbackHandler = void (*)(CUpti_CallbackId id, const void* data);
void SetCallbackHandler(CUpti_CallbackDomain domain, CallbackHandler handler);

// Throws std::runtime_error "WHAT: CUPTI's words" unless `result` is success.
void Check(CUptiResult result, const char* what);

}  // namespace reporters::internal

#endif  // REPORTERS_CUDA_INTERNAL_CUPTI_CLIENT_H_
