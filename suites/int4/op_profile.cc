#include "suites/int4/op_profile.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <vector>

namespace suites {
namespace {

using Clock = std::chrono::steady_clock;

struct Totals {
  std::int64_t count = 0;
  double time_us = 0;
};

// One recording at a time: at::RecordFunction's callbacks are plain functions
// and find their recording here.
std::mutex mutex;
std::map<std::string, Totals>* recording = nullptr;

struct Scope : at::ObserverContext {
  Clock::time_point start;
  double children_us = 0;
  Scope* parent = nullptr;
};

// Scopes nest on the thread that opened them.
thread_local Scope* innermost = nullptr;

std::unique_ptr<at::ObserverContext> OnEnter(const at::RecordFunction&) {
  auto scope = std::make_unique<Scope>();
  scope->parent = innermost;
  innermost = scope.get();
  scope->start = Clock::now();
  return scope;
}

void OnExit(const at::RecordFunction& function, at::ObserverContext* context) {
  auto* scope = static_cast<Scope*>(context);
  if (scope == nullptr) return;
  const double elapsed_us = std::chrono::duration<double, std::micro>(Clock::now() - scope->start).count();
  innermost = scope->parent;
  if (scope->parent != nullptr) scope->parent->children_us += elapsed_us;
  const std::lock_guard<std::mutex> lock(mutex);
  if (recording == nullptr) return;
  Totals& totals = (*recording)[function.name()];
  ++totals.count;
  totals.time_us += std::max(0.0, elapsed_us - scope->children_us);
}

}  // namespace

struct OpProfiler::State {
  std::map<std::string, Totals> totals;
  at::CallbackHandle handle = 0;
};

OpProfiler::OpProfiler() : state_(std::make_unique<State>()) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (recording != nullptr) throw std::logic_error("OpProfiler: one recording at a time");
    recording = &state_->totals;
  }
  state_->handle = at::addGlobalCallback(
      at::RecordFunctionCallback(OnEnter, OnExit).scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE}));
}

OpProfiler::~OpProfiler() {
  at::removeCallback(state_->handle);
  const std::lock_guard<std::mutex> lock(mutex);
  recording = nullptr;
}

reporters::KernelProfile OpProfiler::Take(const std::string& expected) {
  reporters::KernelProfile profile;
  profile.expected_kernel = expected;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [name, totals] : state_->totals) {
    profile.kernels.push_back({name, "cpu", totals.count, totals.time_us, KindOfOperator(name)});
    if (name == expected) profile.expected_count = totals.count;
  }
  std::stable_sort(profile.kernels.begin(), profile.kernels.end(),
                   [](const auto& a, const auto& b) { return a.time_us > b.time_us; });
  profile.status = profile.kernels.empty() ? reporters::ProfileStatus::kEmpty : reporters::ProfileStatus::kOk;
  if (profile.kernels.empty()) profile.reason = "at::RecordFunction reported no operator";
  return profile;
}

reporters::KernelKind KindOfOperator(const std::string& name) {
  using reporters::KernelKind;
  for (const kernels::KernelIdentity& kernel : kernels::RegisteredKernels()) {
    if (name == kernel.op || (!kernel.ordered_op.empty() && name == kernel.ordered_op)) {
      return kernel.family == "marlin" ? KernelKind::kMarlin : KernelKind::kGemm;
    }
  }
  static const std::set<std::string> gemms = {"aten::mm", "aten::addmm", "aten::bmm",    "aten::baddbmm", "aten::addmv",
                                              "aten::mv", "aten::dot",   "aten::linear", "aten::matmul"};
  return gemms.contains(name) ? KernelKind::kGemm : KernelKind::kOther;
}

}  // namespace suites
