// Kernels of a GPU and the operators that launched them.
#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <map>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "reporters/cuda/kernel_profiler.h"
#include "suites/int4/op_profile.h"

namespace suites {
namespace {

using reporters::CudaProfile;
using reporters::KernelEntry;
using reporters::KernelKind;
using reporters::KernelProfile;
using reporters::ProfiledKernel;
using reporters::ProfileStatus;
using reporters::ScopeTable;

using Names = std::vector<std::string>;

// at::RecordFunction's callbacks are plain functions and find their recording here.
std::atomic<reporters::CuptiProfiler*> recording{nullptr};

struct Entered : at::ObserverContext {
  reporters::CuptiProfiler* profiler = nullptr;
};

std::unique_ptr<at::ObserverContext> OnEnter(const at::RecordFunction& function) {
  auto entered = std::make_unique<Entered>();
  entered->profiler = recording.load();
  if (entered->profiler != nullptr) entered->profiler->PushScope(function.name());
  return entered;
}

void OnExit(const at::RecordFunction&, at::ObserverContext* context) {
  const auto* entered = static_cast<const Entered*>(context);
  if (entered != nullptr && entered->profiler != nullptr) entered->profiler->PopScope();
}

// The operators of a scope, outermost first.
Names ChainOf(const ScopeTable& scopes, std::uint64_t scope) {
  Names chain;
  for (auto found = scopes.find(scope); found != scopes.end(); found = scopes.find(found->second.parent)) {
    chain.push_back(found->second.name);
    if (found->second.parent >= found->first) break;
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

std::string Join(const Names& chain) {
  std::string text;
  for (const std::string& name : chain) text += (text.empty() ? "" : " > ") + name;
  return text;
}

// The outermost call of operator `op` around the scope; 0: none.
std::uint64_t CallOf(const ScopeTable& scopes, std::uint64_t scope, const std::string& op) {
  std::uint64_t call = 0;
  for (auto found = scopes.find(scope); found != scopes.end(); found = scopes.find(found->second.parent)) {
    if (found->second.name == op) call = found->first;
    if (found->second.parent >= found->first) break;
  }
  return call;
}

// What a kernel is, from the operator that launched it: the innermost decides.
// aten::fill_ within a matmul is none of it.
KernelKind KindOf(const Names& chain, const std::string& kernel) {
  if (chain.empty()) return KernelKind::kOther;
  const std::string& op = chain.back();
  std::string name = kernel;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  KernelKind kind = KindOfOperator(op);
  if (op == "qwen3::linear") kind = KernelKind::kGemm;
  if (kind != KernelKind::kOther) return has("dequant") || has("reconstruct") ? KernelKind::kDequant : kind;
  return op.starts_with("aten::") || op.starts_with("qwen3::") ? KernelKind::kNone : KernelKind::kOther;
}

// Which operators launched which function in an eager pass.
class Learned {
 public:
  Learned(const CudaProfile& pass, const std::string& expected) {
    std::map<std::uint64_t, Names> calls;  // of `expected`: what each launched, in order
    std::set<std::string> elsewhere;
    for (const ProfiledKernel& kernel : pass.kernels) {
      const Names chain = ChainOf(pass.scopes, kernel.scope);
      if (!chain.empty()) {
        by_launch_[{kernel.name, kernel.activity.grid, kernel.activity.block}].insert(chain);
        by_name_[kernel.name].insert(chain);
      }
      if (const std::uint64_t call = CallOf(pass.scopes, kernel.scope, expected); call != 0) {
        calls[call].push_back(kernel.name);
      } else {
        elsewhere.insert(kernel.name);
      }
    }
    for (const auto& [call, names] : calls) {
      const auto own = std::find_if(names.begin(), names.end(), [&](const auto& n) { return !elsewhere.contains(n); });
      if (own == names.end()) continue;
      leads_.insert(*own);
      sequences_.insert(names);
    }
  }

  std::set<Names> OperatorsOf(const ProfiledKernel& kernel) const {
    if (const auto found = by_launch_.find({kernel.name, kernel.activity.grid, kernel.activity.block});
        found != by_launch_.end()) {
      return found->second;
    }
    const auto found = by_name_.find(kernel.name);
    return found == by_name_.end() ? std::set<Names>() : found->second;
  }

  bool knows_calls() const { return !leads_.empty(); }

  // Calls of the expected operator in what a graph ran, in order: launches that
  // follow each other as in a call, or a call's own function by itself.
  std::int64_t CountCalls(const Names& kernels) const {
    std::int64_t calls = 0;
    for (std::size_t i = 0; i < kernels.size();) {
      std::size_t longest = 0;
      for (const Names& sequence : sequences_) {
        if (sequence.size() <= longest || sequence.size() > kernels.size() - i) continue;
        const auto first = kernels.begin() + static_cast<std::ptrdiff_t>(i);
        if (std::equal(sequence.begin(), sequence.end(), first)) longest = sequence.size();
      }
      if (longest > 0 || leads_.contains(kernels[i])) ++calls;
      i += std::max<std::size_t>(longest, 1);
    }
    return calls;
  }

 private:
  using Launch = std::tuple<std::string, std::array<std::int64_t, 3>, std::array<std::int64_t, 3>>;
  std::map<Launch, std::set<Names>> by_launch_;
  std::map<std::string, std::set<Names>> by_name_;
  std::set<std::string> leads_;
  std::set<Names> sequences_;
};

}  // namespace

KernelProfile ProfileOf(const CudaProfile& profile, const CudaProfile& learned, const std::string& expected,
                        const std::vector<std::string>& device_functions) {
  KernelProfile result;
  result.status = profile.status;
  result.reason = profile.reason;
  result.expected_kernel = expected;
  const Learned names(learned, expected);
  std::vector<KernelEntry> entries;
  std::set<std::uint64_t> calls;
  Names replayed;
  for (const ProfiledKernel& kernel : profile.kernels) {
    std::set<Names> operators;
    if (kernel.activity.graph == 0) {
      if (const Names chain = ChainOf(profile.scopes, kernel.scope); !chain.empty()) operators.insert(chain);
      if (const std::uint64_t call = CallOf(profile.scopes, kernel.scope, expected); call != 0) calls.insert(call);
    } else {
      operators = names.OperatorsOf(kernel);
      replayed.push_back(kernel.name);
    }
    if (operators.empty()) ++result.unattributed;
    std::string op;
    std::set<KernelKind> kinds;
    for (const Names& chain : operators) {
      // Several: one function that several operators launch alike.
      op += (op.empty() ? "" : " or ") + Join(chain);
      kinds.insert(KindOf(chain, kernel.name));
    }
    KernelEntry entry = reporters::EntryOf(kernel, op);
    if (kinds.size() == 1) entry.kind = *kinds.begin();
    entries.push_back(std::move(entry));
  }
  result.kernels = reporters::Aggregate(entries);
  result.expected_count = static_cast<std::int64_t>(calls.size());
  if (names.knows_calls()) {
    result.expected_count += names.CountCalls(replayed);
  } else {
    result.expected_count += std::count_if(replayed.begin(), replayed.end(), [&](const std::string& name) {
      return std::any_of(device_functions.begin(), device_functions.end(),
                         [&](const std::string& part) { return name.find(part) != std::string::npos; });
    });
  }
  return result;
}

struct CudaOpProfiler::State {
  reporters::CuptiProfiler profiler;
  CudaProfile learned;
  at::CallbackHandle handle = 0;
};

CudaOpProfiler::CudaOpProfiler() : state_(std::make_unique<State>()) {
  reporters::CuptiProfiler* none = nullptr;
  if (!recording.compare_exchange_strong(none, &state_->profiler)) {
    throw std::logic_error("CudaOpProfiler: one recording at a time");
  }
  state_->profiler.Start();
  state_->handle = at::addGlobalCallback(
      at::RecordFunctionCallback(OnEnter, OnExit).scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE}));
}

CudaOpProfiler::~CudaOpProfiler() {
  at::removeCallback(state_->handle);
  recording = nullptr;
}

void CudaOpProfiler::Learn() { state_->learned = state_->profiler.Take(); }

KernelProfile CudaOpProfiler::Take(const std::string& expected, const std::vector<std::string>& device_functions) {
  return ProfileOf(state_->profiler.Take(), state_->learned, expected, device_functions);
}

CudaProfile CudaOpProfiler::TakeRaw() { return state_->profiler.Take(); }

}  // namespace suites
