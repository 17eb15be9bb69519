#include "reporters/cuda/sass.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <utility>

namespace reporters {
namespace {

std::string_view Trim(std::string_view text) {
  const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> SplitDots(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t dot = text.find('.');
    parts.push_back(text.substr(0, dot));
    if (dot == std::string_view::npos) return parts;
    text.remove_prefix(dot + 1);
  }
}

// "F16", "F16x2", "BF16_V2", "F32x4", "F64"
bool IsFloatType(std::string_view part) {
  for (const std::string_view type : {"BF16", "F16", "F32", "F64"}) {
    if (!part.starts_with(type)) continue;
    part.remove_prefix(type.size());
    return part.empty() || part.front() == 'x' || part.front() == '_';
  }
  return false;
}

// ATOM, ATOMG, ATOMS: read, change, write. RED, REDG: without the value. UBLKRED,
// UTMAREDG: by the copy engine. Not REDUX, which is of one warp's registers.
bool IsAtomic(std::string_view base) {
  static constexpr std::array<std::string_view, 8> kBases = {"ATOM", "ATOMG",   "ATOMS",    "RED",
                                                             "REDG", "UBLKRED", "UTMAREDG", "REDAS"};
  return std::find(kBases.begin(), kBases.end(), base) != kBases.end();
}

bool IsFloatAddition(std::string_view base) {
  static constexpr std::array<std::string_view, 9> kBases = {"FADD", "FFMA",  "HADD2", "HFMA2",  "DADD",
                                                             "DFMA", "FADD2", "FFMA2", "FADD32I"};
  return std::find(kBases.begin(), kBases.end(), base) != kBases.end();
}

// A function while its lines are read.
class Reader {
 public:
  explicit Reader(SassFunction& function) : function_(function) {}

  void Label(std::string_view name) { labels_[std::string(name)] = opcodes_.size(); }

  void Line(std::string_view text) {
    // "/*0050*/  @!P0 REDG.E.ADD.F32 desc[UR4][R2.64], R5 ;"
    const std::size_t end = text.find("*/");
    if (end == std::string_view::npos) return;
    text = Trim(text.substr(end + 2));
    if (text.starts_with('{')) text = Trim(text.substr(1));
    if (text.starts_with('@')) text = Trim(text.substr(std::min(text.find(' '), text.size())));
    const std::string_view opcode = text.substr(0, text.find_first_of(" \t;"));
    if (opcode.empty() || std::isupper(static_cast<unsigned char>(opcode.front())) == 0) return;
    ++function_.instructions;
    // HFMA2 R0, -RZ, RZ, 0, 1 loads a constant.
    additions_.push_back(IsFloatAddition(opcode.substr(0, opcode.find('.'))) &&
                         text.find("RZ, RZ") == std::string_view::npos);
    opcodes_.emplace_back(opcode);
    const std::string_view base = opcode.substr(0, opcode.find('.'));
    if (base != "BRA" && base != "CALL") return;
    const std::size_t open = text.find("`(");
    const std::size_t close = open == std::string_view::npos ? open : text.find(')', open);
    if (close == std::string_view::npos) return;
    const std::string_view target = text.substr(open + 2, close - open - 2);
    // "$caller$callee" lies in the caller's own section.
    if (base == "CALL" && !target.starts_with('$')) function_.calls.emplace(target);
    if (base == "BRA") jumps_.emplace_back(opcodes_.size() - 1, std::string(target));
  }

  void Finish() {
    for (std::size_t i = 0; i < opcodes_.size(); ++i) Count(i);
  }

 private:
  void Count(std::size_t index) {
    const std::string& opcode = opcodes_[index];
    const std::vector<std::string_view> parts = SplitDots(opcode);
    if (!IsAtomic(parts[0])) return;
    const auto has = [&](auto wanted) { return std::any_of(parts.begin() + 1, parts.end(), wanted); };
    AtomicCounts& atomics = function_.atomics;
    if (has([](std::string_view p) { return p.starts_with("CAS"); })) {
      const std::string addition = AdditionInLoopAround(index);
      if (addition.empty()) {
        ++atomics.compare_and_swap[opcode];
      } else {
        ++atomics.float_adds[opcode + " in a loop with " + addition];
      }
    } else if (has([](std::string_view p) { return p == "ADD"; }) && has(IsFloatType)) {
      ++atomics.float_adds[opcode];
    } else {
      ++atomics.others[opcode];
    }
  }

  // The float addition in the shortest backward jump over `index`; "" if none.
  std::string AdditionInLoopAround(std::size_t index) const {
    std::size_t begin = 0, end = opcodes_.size();
    bool found = false;
    for (const auto& [at, label] : jumps_) {
      const auto target = labels_.find(label);
      if (target == labels_.end() || target->second > index || at < index) continue;
      if (found && at - target->second >= end - begin) continue;
      begin = target->second;
      end = at;
      found = true;
    }
    if (!found) return "";
    for (std::size_t i = begin; i < end; ++i) {
      if (additions_[i]) return opcodes_[i];
    }
    return "";
  }

  SassFunction& function_;
  std::vector<std::string> opcodes_;
  std::vector<bool> additions_;                             // of floats, by instruction
  std::map<std::string, std::size_t> labels_;               // index of the instruction that follows
  std::vector<std::pair<std::size_t, std::string>> jumps_;  // index, label
};

}  // namespace

void AtomicCounts::Add(const AtomicCounts& counts) {
  for (const auto& [name, n] : counts.float_adds) float_adds[name] += n;
  for (const auto& [name, n] : counts.compare_and_swap) compare_and_swap[name] += n;
  for (const auto& [name, n] : counts.others) others[name] += n;
}

std::vector<SassFunction> ParseSass(std::string_view text) {
  static constexpr std::string_view kSection = ".section\t";  // not ".sectioninfo"
  static constexpr std::string_view kText = ".text.";
  std::vector<SassFunction> functions;
  SassFunction function;
  std::optional<Reader> reader;
  const auto finish = [&] {
    if (!reader) return;
    reader->Finish();
    functions.push_back(std::move(function));
    reader.reset();
  };
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.starts_with(kSection)) {
      finish();
      const std::string_view rest = Trim(line.substr(kSection.size()));
      if (!rest.starts_with(kText)) continue;
      const std::string_view name = rest.substr(kText.size(), rest.find(',') - kText.size());
      function = SassFunction();
      function.name = std::string(name);
      reader.emplace(function);
    } else if (!reader) {
      continue;
    } else if (line.starts_with("/*")) {
      reader->Line(line);
    } else if (line.starts_with('.') && line.ends_with(':')) {
      reader->Label(line.substr(0, line.size() - 1));
    }
  }
  finish();
  return functions;
}

AtomicCounts AtomicsOf(const std::vector<SassFunction>& functions, std::string_view function) {
  AtomicCounts counts;
  std::set<std::string> seen;
  std::vector<std::string> open = {std::string(function)};
  while (!open.empty()) {
    const std::string name = open.back();
    open.pop_back();
    if (!seen.insert(name).second) continue;
    for (const SassFunction& candidate : functions) {
      if (candidate.name != name) continue;
      counts.Add(candidate.atomics);
      open.insert(open.end(), candidate.calls.begin(), candidate.calls.end());
    }
  }
  return counts;
}

std::string Describe(const std::map<std::string, int>& counts) {
  std::string text;
  for (const auto& [name, n] : counts) text += (text.empty() ? "" : ", ") + std::to_string(n) + " " + name;
  return text;
}

}  // namespace reporters
