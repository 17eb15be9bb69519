#include "reporters/cuda/internal/cupti_client.h"

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>

namespace reporters::internal {
namespace {

std::array<std::atomic<CallbackHandler>, CUPTI_CB_DOMAIN_SIZE> handlers{};

void CUPTIAPI OnCallback(void*, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void* data) {
  const auto index = static_cast<std::size_t>(domain);
  if (index >= handlers.size()) return;
  if (const CallbackHandler handler = handlers[index].load(std::memory_order_acquire)) handler(id, data);
}

// CUPTI is never called while this is held by a thread that records or is called
// back: only those that subscribe and unsubscribe take it.
std::mutex mutex;
int users = 0;
CUpti_SubscriberHandle subscriber{};

bool IsSet(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' && std::strcmp(value, "0") != 0;
}

}  // namespace

std::string WhyNoCupti() {
  if (IsSet("DETERMINISM_NO_CUPTI")) return "DETERMINISM_NO_CUPTI is set";
  // Tools that put a library of their own into the process.
  for (const char* name : {"CUDA_INJECTION64_PATH", "NV_SANITIZER_INJECTION_PORT_BASE", "NSYS_PROFILING_SESSION_ID"}) {
    if (IsSet(name)) return std::string("another CUPTI client: ") + name + " is set (nsys, ncu or compute-sanitizer)";
  }
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(error);
  if (devices == 0) return "no CUDA device: the driver reports none";
  return "";
}

void Check(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return;
  if (result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED) {
    throw std::runtime_error(
        "another CUPTI client holds the only subscription (nsys, ncu, compute-sanitizer, "
        "PyTorch's profiler)");
  }
  const char* words = nullptr;
  if (cuptiGetResultString(result, &words) != CUPTI_SUCCESS || words == nullptr) words = "no reason given";
  throw std::runtime_error(std::string(what) + ": " + words);
}

Subscription::Subscription() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (users == 0) Check(cuptiSubscribe(&subscriber, OnCallback, nullptr), "cuptiSubscribe");
  ++users;
}

Subscription::~Subscription() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (--users == 0) cuptiUnsubscribe(subscriber);
}

void Subscription::Enable(CUpti_CallbackDomain domain, CUpti_CallbackId id, bool enable) const {
  Check(cuptiEnableCallback(enable ? 1 : 0, subscriber, domain, id), "cuptiEnableCallback");
}

void SetCallbackHandler(CUpti_CallbackDomain domain, CallbackHandler handler) {
  handlers.at(static_cast<std::size_t>(domain)).store(handler, std::memory_order_release);
}

}  // namespace reporters::internal
