#include "reporters/cuda/activity.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

namespace reporters {
namespace {

using Call = CallActivity;

std::string Count(std::int64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

// Times between which a thread captured a stream.
std::map<std::uint32_t, std::vector<std::pair<std::uint64_t, std::uint64_t>>> CapturesOf(
    const std::vector<Call>& calls) {
  std::map<std::uint32_t, std::vector<std::pair<std::uint64_t, std::uint64_t>>> captures;
  for (const Call& call : calls) {
    if (call.failed) continue;
    auto& of_thread = captures[call.thread];
    if (call.kind == Call::Kind::kBeginCapture) of_thread.emplace_back(call.start_ns, UINT64_MAX);
    if (call.kind == Call::Kind::kEndCapture && !of_thread.empty() && of_thread.back().second == UINT64_MAX) {
      of_thread.back().second = call.end_ns;
    }
  }
  return captures;
}

// One launch, by whichever of its calls the kernels are known.
struct Launch {
  std::set<std::uint32_t> correlation_ids;
  bool graph = false;
  bool captured = false;
};

// The calls in the order of their threads' time, one launch for a call and those inside it.
std::vector<Launch> LaunchesOf(std::vector<Call> calls) {
  std::sort(calls.begin(), calls.end(), [](const Call& a, const Call& b) {
    // Of two that begin together the longer one is outside.
    return std::tie(a.thread, a.start_ns, b.end_ns) < std::tie(b.thread, b.start_ns, a.end_ns);
  });
  const auto captures = CapturesOf(calls);
  std::vector<Launch> launches;
  std::uint32_t thread = 0;
  std::uint64_t end = 0;
  bool inside = false;
  for (const Call& call : calls) {
    if (call.kind != Call::Kind::kLaunch && call.kind != Call::Kind::kGraphLaunch) continue;
    if (inside && call.thread == thread && call.end_ns <= end) {
      if (!call.failed) launches.back().correlation_ids.insert(call.correlation_id);
      continue;
    }
    inside = !call.failed;
    if (call.failed) continue;
    thread = call.thread;
    end = call.end_ns;
    Launch launch;
    launch.correlation_ids.insert(call.correlation_id);
    launch.graph = call.kind == Call::Kind::kGraphLaunch;
    if (const auto found = captures.find(call.thread); found != captures.end()) {
      launch.captured = std::any_of(found->second.begin(), found->second.end(), [&](const auto& capture) {
        return capture.first <= call.start_ns && call.end_ns <= capture.second;
      });
    }
    launches.push_back(std::move(launch));
  }
  return launches;
}

}  // namespace

CudaProfile JoinActivities(ActivityRecords records, ScopeTable scopes) {
  CudaProfile profile;
  profile.dropped = static_cast<std::int64_t>(records.dropped);
  profile.scopes = std::move(scopes);

  std::map<std::uint32_t, std::uint64_t> scope_of;
  for (const ScopeActivity& record : records.scopes) scope_of[record.correlation_id] = record.scope;
  // What each call's id brought: executions, and for a replay which graph.
  std::map<std::uint32_t, std::int64_t> executions;
  std::map<std::uint32_t, std::uint32_t> graph_of;
  for (const KernelActivity& kernel : records.kernels) {
    ++executions[kernel.correlation_id];
    if (kernel.graph != 0) graph_of[kernel.correlation_id] = kernel.graph;
  }
  for (const CopyActivity& copy : records.copies) {
    ++executions[copy.correlation_id];
    if (copy.graph != 0) graph_of[copy.correlation_id] = copy.graph;
  }

  std::set<std::uint32_t> known;
  std::map<std::uint32_t, std::int64_t> most_of_graph;
  std::vector<std::pair<std::uint32_t, std::int64_t>> replays;  // graph, executions
  for (const Launch& launch : LaunchesOf(std::move(records.calls))) {
    known.insert(launch.correlation_ids.begin(), launch.correlation_ids.end());
    std::int64_t seen = 0;
    std::uint32_t graph = 0;
    for (const std::uint32_t id : launch.correlation_ids) {
      if (const auto found = executions.find(id); found != executions.end()) seen += found->second;
      if (const auto found = graph_of.find(id); found != graph_of.end()) graph = found->second;
    }
    if (launch.captured && seen == 0) continue;
    ++profile.launches;
    if (seen == 0) ++profile.without_kernel;
    if (launch.graph && graph != 0) {
      replays.emplace_back(graph, seen);
      most_of_graph[graph] = std::max(most_of_graph[graph], seen);
    }
  }
  for (const auto& [graph, seen] : replays) profile.without_kernel += most_of_graph[graph] - seen;

  // The scope of a call: of its own id.
  const auto scope_at = [&](std::uint32_t correlation_id) {
    const auto found = scope_of.find(correlation_id);
    return found == scope_of.end() ? std::uint64_t{0} : found->second;
  };
  std::map<std::string, std::string> names;
  for (KernelActivity& kernel : records.kernels) {
    ProfiledKernel profiled;
    profiled.scope = scope_at(kernel.correlation_id);
    const bool unknown_scope = profiled.scope != 0 && !profile.scopes.contains(profiled.scope);
    if (unknown_scope) profiled.scope = 0;
    if (unknown_scope || !known.contains(kernel.correlation_id)) ++profile.unmatched;
    const auto [name, added] = names.try_emplace(kernel.name);
    if (added) name->second = DemangledName(kernel.name);
    profiled.name = name->second;
    profiled.activity = std::move(kernel);
    profile.kernels.push_back(std::move(profiled));
  }
  for (CopyActivity& copy : records.copies) {
    const std::uint64_t scope = scope_at(copy.correlation_id);
    profile.copies.push_back({std::move(copy), profile.scopes.contains(scope) ? scope : 0});
  }
  const auto by_start = [](const auto& a, const auto& b) {
    return std::tie(a.activity.start_ns, a.activity.end_ns) < std::tie(b.activity.start_ns, b.activity.end_ns);
  };
  std::stable_sort(profile.kernels.begin(), profile.kernels.end(), by_start);
  std::stable_sort(profile.copies.begin(), profile.copies.end(), by_start);

  std::string missing;
  const auto add = [&](std::int64_t n, const std::string& text) {
    if (n == 0) return;
    if (!missing.empty()) missing += ", ";
    missing += text;
  };
  add(profile.dropped, Count(profile.dropped, "record") + " dropped");
  add(profile.without_kernel, std::to_string(profile.without_kernel) +
                                  (profile.without_kernel == 1 ? " launch" : " launches") + " without its kernel");
  add(profile.unmatched, Count(profile.unmatched, "kernel") + " without a launch or scope that is known");
  if (profile.kernels.empty()) {
    profile.status = ProfileStatus::kEmpty;
    profile.reason = "CUPTI reported no kernel in " + std::to_string(profile.launches) +
                     (profile.launches == 1 ? " launch" : " launches");
    if (!missing.empty()) profile.reason += " (" + missing + ")";
  } else {
    profile.status = missing.empty() ? ProfileStatus::kOk : ProfileStatus::kIncomplete;
    profile.reason = missing;
  }
  return profile;
}

std::string DemangledName(std::string_view name, std::size_t limit) {
  std::string text(name);
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> demangled(abi::__cxa_demangle(text.c_str(), nullptr, nullptr, &status),
                                                         std::free);
  if (status == 0 && demangled != nullptr) text = demangled.get();
  if (text.size() > limit) text = text.substr(0, limit > 3 ? limit - 3 : 0) + "...";
  return text;
}

std::string ScopeChain(const ScopeTable& scopes, std::uint64_t scope) {
  std::string chain;
  // A parent is entered before its child and has the smaller number.
  for (auto found = scopes.find(scope); scope != 0 && found != scopes.end();) {
    chain = chain.empty() ? found->second.name : found->second.name + " > " + chain;
    if (found->second.parent >= scope) break;
    scope = found->second.parent;
    found = scopes.find(scope);
  }
  return chain;
}

KernelEntry EntryOf(const ProfiledKernel& kernel, std::string op) {
  const KernelActivity& activity = kernel.activity;
  KernelEntry entry;
  entry.name = kernel.name;
  entry.device = "cuda:" + std::to_string(activity.device);
  entry.count = 1;
  entry.time_us =
      activity.end_ns > activity.start_ns ? static_cast<double>(activity.end_ns - activity.start_ns) / 1e3 : 0;
  entry.op = std::move(op);
  entry.registers = activity.registers;
  entry.static_shared_bytes = activity.static_shared_bytes;
  entry.dynamic_shared_bytes = activity.dynamic_shared_bytes;
  entry.grid = activity.grid;
  entry.block = activity.block;
  return entry;
}

std::vector<KernelEntry> Aggregate(const std::vector<KernelEntry>& entries) {
  const auto key = [](const KernelEntry& e) {
    return std::tie(e.name, e.device, e.op, e.kind, e.registers, e.static_shared_bytes, e.dynamic_shared_bytes, e.grid,
                    e.block);
  };
  const auto less = [&](const KernelEntry* a, const KernelEntry* b) { return key(*a) < key(*b); };
  std::map<const KernelEntry*, KernelEntry, decltype(less)> sums(less);
  for (const KernelEntry& entry : entries) {
    const auto [found, added] = sums.try_emplace(&entry, entry);
    if (added) continue;
    found->second.count += entry.count;
    found->second.time_us += entry.time_us;
  }
  std::vector<KernelEntry> result;
  for (auto& [first, sum] : sums) result.push_back(std::move(sum));
  std::stable_sort(result.begin(), result.end(),
                   [](const KernelEntry& a, const KernelEntry& b) { return a.time_us > b.time_us; });
  return result;
}

}  // namespace reporters
