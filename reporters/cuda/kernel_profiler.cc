#include "reporters/cuda/kernel_profiler.h"

#include <utility>

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

#include <cuda_runtime_api.h>
#include <cupti.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <unordered_map>

#include "reporters/cuda/internal/call_kind.h"
#include "reporters/cuda/internal/cupti_client.h"

namespace reporters {
namespace {

#if CUPTI_API_VERSION >= 130000
using KernelRecord = CUpti_ActivityKernel10;
using CopyRecord = CUpti_ActivityMemcpy6;
#else
using KernelRecord = CUpti_ActivityKernel9;
using CopyRecord = CUpti_ActivityMemcpy5;
#endif
using FillRecord = CUpti_ActivityMemset4;

constexpr std::size_t kBufferBytes = std::size_t{4} << 20;
constexpr std::size_t kAlignment = 8;
constexpr auto kExternalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                         CUPTI_ACTIVITY_KIND_RUNTIME,
                                         CUPTI_ACTIVITY_KIND_DRIVER,
                                         CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET};

// What CUPTI's threads hand over. Held only to append and to take away, and
// never while CUPTI is called: CUPTI holds locks of its own when it calls us.
std::mutex mutex;
ActivityRecords collected;
ScopeTable scopes;

std::atomic<bool> recording{false};
std::atomic<std::uint64_t> next_scope{1};
thread_local std::vector<std::uint64_t> open_scopes;

std::optional<CallActivity::Kind> CallKindOf(CUpti_CallbackDomain domain, CUpti_CallbackId id) {
  thread_local std::unordered_map<std::uint64_t, std::optional<CallActivity::Kind>> known;
  const std::uint64_t key = static_cast<std::uint64_t>(domain) << 32 | id;
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  const char* name = nullptr;
  std::optional<CallActivity::Kind> kind;
  if (cuptiGetCallbackName(domain, id, &name) == CUPTI_SUCCESS && name != nullptr) kind = internal::CallKindOf(name);
  known.emplace(key, kind);
  return kind;
}

std::string CopyName(unsigned kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "memcpy HtoD";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "memcpy DtoH";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "memcpy DtoD";
    case CUPTI_ACTIVITY_MEMCPY_KIND_PTOP:
      return "memcpy PtoP";
    default:
      return "memcpy";
  }
}

// Copies what is kept of a record; its memory is CUPTI's.
void Append(const CUpti_Activity* record, ActivityRecords* out) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
    case CUPTI_ACTIVITY_KIND_KERNEL: {
      const auto* r = reinterpret_cast<const KernelRecord*>(record);
      KernelActivity kernel;
      kernel.name = r->name != nullptr ? r->name : "";
      kernel.correlation_id = r->correlationId;
      kernel.device = r->deviceId;
      kernel.context = r->contextId;
      kernel.stream = r->streamId;
      kernel.start_ns = r->start;
      kernel.end_ns = r->end;
      kernel.grid = {r->gridX, r->gridY, r->gridZ};
      kernel.block = {r->blockX, r->blockY, r->blockZ};
      kernel.registers = r->registersPerThread;
      kernel.static_shared_bytes = r->staticSharedMemory;
      kernel.dynamic_shared_bytes = r->dynamicSharedMemory;
      kernel.graph = r->graphId;
      kernel.graph_node = r->graphNodeId;
      out->kernels.push_back(std::move(kernel));
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto* r = reinterpret_cast<const CopyRecord*>(record);
      out->copies.push_back({CopyName(r->copyKind), r->correlationId, r->deviceId, r->contextId, r->streamId, r->start,
                             r->end, r->bytes, r->graphId});
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto* r = reinterpret_cast<const FillRecord*>(record);
      out->copies.push_back(
          {"memset", r->correlationId, r->deviceId, r->contextId, r->streamId, r->start, r->end, r->bytes, r->graphId});
      break;
    }
    case CUPTI_ACTIVITY_KIND_RUNTIME:
    case CUPTI_ACTIVITY_KIND_DRIVER: {
      const auto* r = reinterpret_cast<const CUpti_ActivityAPI*>(record);
      const CUpti_CallbackDomain domain =
          record->kind == CUPTI_ACTIVITY_KIND_RUNTIME ? CUPTI_CB_DOMAIN_RUNTIME_API : CUPTI_CB_DOMAIN_DRIVER_API;
      if (const auto kind = CallKindOf(domain, r->cbid)) {
        out->calls.push_back({*kind, r->correlationId, r->threadId, r->start, r->end, r->returnValue != 0});
      }
      break;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto* r = reinterpret_cast<const CUpti_ActivityExternalCorrelation*>(record);
      if (r->externalKind == kExternalKind) out->scopes.push_back({r->correlationId, r->externalId});
      break;
    }
    default:
      break;
  }
}

template <class T>
void MoveTo(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

void CUPTIAPI OnBufferRequested(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
  // Without memory CUPTI drops records, and counts them.
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kAlignment, kBufferBytes));
  *size = *buffer != nullptr ? kBufferBytes : 0;
  *most_records = 0;
}

void CUPTIAPI OnBufferCompleted(CUcontext context, std::uint32_t stream, std::uint8_t* buffer, std::size_t,
                                std::size_t valid) {
  ActivityRecords records;
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) Append(record, &records);
  std::size_t dropped = 0;
  if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS) records.dropped = dropped;
  std::free(buffer);
  const std::lock_guard<std::mutex> lock(mutex);
  MoveTo(collected.kernels, records.kernels);
  MoveTo(collected.copies, records.copies);
  MoveTo(collected.calls, records.calls);
  MoveTo(collected.scopes, records.scopes);
  collected.dropped += records.dropped;
}

void Synchronize() {
  internal::Check(cudaDeviceSynchronize() == cudaSuccess ? CUPTI_SUCCESS : CUPTI_ERROR_UNKNOWN,
                  "cudaDeviceSynchronize");
}

ActivityRecords Drain() {
  const std::lock_guard<std::mutex> lock(mutex);
  return std::exchange(collected, {});
}

}  // namespace

struct CuptiProfiler::State {
  std::unique_ptr<internal::Subscription> subscription;
  std::string reason;
  bool started = false;

  void Disable() {
    for (const CUpti_ActivityKind kind : kKinds) cuptiActivityDisable(kind);
  }
};

CuptiProfiler::CuptiProfiler() : state_(std::make_unique<State>()) {}

CuptiProfiler::~CuptiProfiler() { Stop(); }

bool CuptiProfiler::Start() {
  State& state = *state_;
  if (state.started) return true;
  state.reason = internal::WhyNoCupti();
  if (!state.reason.empty()) return false;
  if (recording.exchange(true)) {
    state.reason = "another recording goes on in this process";
    return false;
  }
  try {
    // Fails where another client is there; the activities alone might not.
    state.subscription = std::make_unique<internal::Subscription>();
    Synchronize();
    internal::Check(cuptiActivityRegisterCallbacks(OnBufferRequested, OnBufferCompleted),
                    "cuptiActivityRegisterCallbacks");
    for (const CUpti_ActivityKind kind : kKinds) internal::Check(cuptiActivityEnable(kind), "cuptiActivityEnable");
  } catch (const std::exception& error) {
    state.reason = error.what();
    state.Disable();
    state.subscription.reset();
    recording = false;
    return false;
  }
  Drain();
  {
    const std::lock_guard<std::mutex> lock(mutex);
    scopes.clear();
  }
  state.started = true;
  return true;
}

bool CuptiProfiler::started() const { return state_->started; }
const std::string& CuptiProfiler::reason() const { return state_->reason; }

void CuptiProfiler::PushScope(const char* name) {
  if (!state_->started) return;
  const std::uint64_t id = next_scope.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t parent = open_scopes.empty() ? 0 : open_scopes.back();
  open_scopes.push_back(id);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    scopes.emplace(id, ScopeEntry{name, parent});
  }
  cuptiActivityPushExternalCorrelationId(kExternalKind, id);
}

void CuptiProfiler::PopScope() {
  // Also after Stop(): what was pushed is taken away on its thread.
  if (open_scopes.empty()) return;
  open_scopes.pop_back();
  std::uint64_t last = 0;
  cuptiActivityPopExternalCorrelationId(kExternalKind, &last);
}

CudaProfile CuptiProfiler::Take() {
  State& state = *state_;
  CudaProfile none;
  if (!state.started) {
    none.status = state.reason.empty() ? ProfileStatus::kNotRequested : ProfileStatus::kUnavailable;
    none.reason = state.reason;
    return none;
  }
  try {
    Synchronize();
    ActivityRecords all;
    CudaProfile profile;
    // All work is done, but its last records may still be on their way: what is
    // missing is asked for again, then with force.
    for (int attempt = 0; attempt < 4; ++attempt) {
      const std::uint32_t flag = attempt == 3 ? CUPTI_ACTIVITY_FLAG_FLUSH_FORCED : 0;
      internal::Check(cuptiActivityFlushAll(flag), "cuptiActivityFlushAll");
      ActivityRecords more = Drain();
      MoveTo(all.kernels, more.kernels);
      MoveTo(all.copies, more.copies);
      MoveTo(all.calls, more.calls);
      MoveTo(all.scopes, more.scopes);
      all.dropped += more.dropped;
      ScopeTable table;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        table = scopes;
      }
      profile = JoinActivities(all, std::move(table));
      if (profile.status == ProfileStatus::kOk) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const std::lock_guard<std::mutex> lock(mutex);
    // Scopes that are still open may launch more.
    std::erase_if(scopes, [](const auto& entry) {
      return std::find(open_scopes.begin(), open_scopes.end(), entry.first) == open_scopes.end();
    });
    return profile;
  } catch (const std::exception& error) {
    none.status = ProfileStatus::kUnavailable;
    none.reason = error.what();
    return none;
  }
}

CudaProfile CuptiProfiler::Stop() {
  CudaProfile profile = Take();
  State& state = *state_;
  if (!state.started) return profile;
  state.Disable();
  state.subscription.reset();
  state.started = false;
  Drain();
  recording = false;
  return profile;
}

}  // namespace reporters

#else

namespace reporters {

struct CuptiProfiler::State {
  std::string reason;
};
CuptiProfiler::CuptiProfiler() : state_(std::make_unique<State>()) {}
CuptiProfiler::~CuptiProfiler() = default;
bool CuptiProfiler::Start() {
  state_->reason = "this build has no device code: it was configured without nvcc or with GTEST_DETERMINISM_CUDA=OFF";
  return false;
}
bool CuptiProfiler::started() const { return false; }
const std::string& CuptiProfiler::reason() const { return state_->reason; }
void CuptiProfiler::PushScope(const char*) {}
void CuptiProfiler::PopScope() {}
CudaProfile CuptiProfiler::Take() {
  CudaProfile profile;
  profile.status = state_->reason.empty() ? ProfileStatus::kNotRequested : ProfileStatus::kUnavailable;
  profile.reason = state_->reason;
  return profile;
}
CudaProfile CuptiProfiler::Stop() { return Take(); }

}  // namespace reporters

#endif
