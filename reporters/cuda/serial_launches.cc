#include "reporters/cuda/serial_launches.h"

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

#include <cuda_runtime_api.h>

#include <atomic>
#include <stdexcept>
#include <utility>
#include <vector>

#include "reporters/cuda/internal/call_kind.h"
#include "reporters/cuda/internal/cupti_client.h"

namespace reporters {
namespace {

// A call of the runtime makes calls of the driver; the outermost one waits, when
// nothing of it is left to do.
thread_local int depth = 0;
std::atomic<bool> serialising{false};

void OnCall(CUpti_CallbackId, const void* data) {
  const auto* call = static_cast<const CUpti_CallbackData*>(data);
  if (call->callbackSite == CUPTI_API_ENTER) {
    ++depth;
    return;
  }
  if (depth > 0) --depth;
  // Its error, if any, is found again by the next call of the program.
  if (depth == 0 && serialising.load(std::memory_order_acquire)) cudaDeviceSynchronize();
}

bool IsWaitedFor(const char* name) {
  const auto kind = internal::CallKindOf(name);
  return (kind && (*kind == CallActivity::Kind::kLaunch || *kind == CallActivity::Kind::kGraphLaunch)) ||
         internal::IsCopyCall(name);
}

}  // namespace

struct SerialLaunches::State {
  internal::Subscription subscription;
  std::vector<std::pair<CUpti_CallbackDomain, CUpti_CallbackId>> enabled;
};

SerialLaunches::SerialLaunches() {
  reason_ = internal::WhyNoCupti();
  if (!reason_.empty()) return;
  if (serialising.exchange(true)) {
    reason_ = "launches are serialised already";
    return;
  }
  try {
    state_ = std::make_unique<State>();
    for (const CUpti_CallbackDomain domain : {CUPTI_CB_DOMAIN_RUNTIME_API, CUPTI_CB_DOMAIN_DRIVER_API}) {
      internal::SetCallbackHandler(domain, OnCall);
      // Ids are dense from 1; the first without a name is past the end.
      for (CUpti_CallbackId id = 1;; ++id) {
        const char* name = nullptr;
        if (cuptiGetCallbackName(domain, id, &name) != CUPTI_SUCCESS || name == nullptr) break;
        if (!IsWaitedFor(name)) continue;
        state_->subscription.Enable(domain, id, true);
        state_->enabled.emplace_back(domain, id);
      }
    }
    if (state_->enabled.empty()) throw std::runtime_error("CUPTI names no call that launches");
  } catch (const std::exception& error) {
    reason_ = error.what();
    state_.reset();
    serialising = false;
  }
}

SerialLaunches::~SerialLaunches() {
  if (state_ == nullptr) return;
  serialising = false;
  for (const auto& [domain, id] : state_->enabled) {
    try {
      state_->subscription.Enable(domain, id, false);
    } catch (const std::exception&) {
      // The handler is taken away below.
    }
  }
  internal::SetCallbackHandler(CUPTI_CB_DOMAIN_RUNTIME_API, nullptr);
  internal::SetCallbackHandler(CUPTI_CB_DOMAIN_DRIVER_API, nullptr);
}

}  // namespace reporters

#else

namespace reporters {
struct SerialLaunches::State {};
SerialLaunches::SerialLaunches()
    : reason_("this build has no device code: it was configured without nvcc or with GTEST_DETERMINISM_CUDA=OFF") {}
SerialLaunches::~SerialLaunches() = default;
}  // namespace reporters

#endif
