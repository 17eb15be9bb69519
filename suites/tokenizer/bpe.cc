#include "suites/tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/tokenizer/utf8.h"

namespace suites {
namespace {

using Json = nlohmann::json;

// The two halves of a merge, written as "a b" or as ["a", "b"].
std::pair<std::string, std::string> Halves(const std::string& file, const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const auto space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw CheckpointError(file + ": merge " + Quoted(merge.dump(-1, ' ', true)) +
                        " is neither \"a b\" nor [\"a\", \"b\"]");
}

bool Set(const Json& model, const char* key) {
  const auto found = model.find(key);
  return found != model.end() && !found->is_null() && *found != false && *found != "" && *found != 0.0;
}

}  // namespace

Bpe::Bpe(const std::string& file, const Json& model) {
  const auto fail = [&](const std::string& reason) { throw CheckpointError(file + ": model: " + reason); };
  if (!model.is_object()) fail("is missing");
  if (const std::string type = model.contains("type") ? model["type"].dump(-1, ' ', true) : "\"BPE\"";
      type != "\"BPE\"") {
    fail("type " + type + " is not read, only BPE");
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (Set(model, key)) fail(std::string(key) + " is not read; byte-level BPE has none");
  }
  const auto vocabulary = model.find("vocab");
  if (vocabulary == model.end() || !vocabulary->is_object() || vocabulary->empty()) fail("no vocab");
  vocabulary_.reserve(vocabulary->size());
  id_of_byte_.fill(-1);
  int bytes = 0;
  for (const auto& [token, id] : vocabulary->items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max()) {
      fail("token " + Quoted(token) + " has no id");
    }
    vocabulary_.emplace(token, id.get<std::int32_t>());
    const auto spelled = BytesOfToken(token);
    if (spelled && spelled->size() == 1) {
      id_of_byte_[static_cast<unsigned char>(spelled->front())] = id.get<std::int32_t>();
      ++bytes;
    }
    if (spelled && Set(model, "ignore_merges")) whole_words_.emplace(*spelled, id.get<std::int32_t>());
  }
  // With all 256 bytes in the vocabulary neither is ever used.
  for (const char* key : {"unk_token", "byte_fallback"}) {
    if (bytes < 256 && Set(model, key)) {
      fail(std::string(key) + " with a vocabulary of " + std::to_string(bytes) + " of the 256 bytes is not read");
    }
  }
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) fail("no merges");
  ReadMerges(file, *merges);
}

void Bpe::ReadMerges(const std::string& file, const Json& merges) {
  const auto id_of = [&](const std::string& token) {
    const auto found = vocabulary_.find(token);
    if (found == vocabulary_.end()) {
      throw CheckpointError(file + ": model: a merge names the token " + Quoted(token) + ", which vocab lacks");
    }
    return found->second;
  };
  merges_.reserve(merges.size());
  std::int32_t rank = 0;
  for (const Json& merge : merges) {
    const auto [left, right] = Halves(file, merge);
    merges_[Pair(id_of(left), id_of(right))] = {.rank = rank++, .id = id_of(left + right)};
  }
}

void Bpe::Encode(std::string_view word, std::vector<std::int64_t>* ids) const {
  if (!whole_words_.empty()) {
    if (const auto found = whole_words_.find(std::string(word)); found != whole_words_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  // Symbols are a linked list; a merged-away symbol has id -1.
  struct Symbol {
    std::int32_t id;
    std::int64_t previous;
    std::int64_t next;
  };
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (const char c : word) {
    const std::int32_t id = id_of_byte_[static_cast<unsigned char>(c)];
    const auto position = static_cast<std::int64_t>(symbols.size());
    if (id >= 0) symbols.push_back({.id = id, .previous = position - 1, .next = position + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  struct Candidate {
    std::int32_t rank;
    std::int64_t position;  // of the left symbol
    std::int32_t id;        // what the merge gives
    bool operator>(const Candidate& other) const {
      return std::tie(rank, position) > std::tie(other.rank, other.position);
    }
  };
  std::vector<Candidate> storage;
  storage.reserve(symbols.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue({}, std::move(storage));
  const auto add = [&](std::int64_t left, std::int64_t right) {
    if (left < 0 || right < 0) return;
    const auto at = [&](std::int64_t i) { return symbols[static_cast<std::size_t>(i)].id; };
    if (const auto merge = merges_.find(Pair(at(left), at(right))); merge != merges_.end()) {
      queue.push({.rank = merge->second.rank, .position = left, .id = merge->second.id});
    }
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    add(static_cast<std::int64_t>(i), static_cast<std::int64_t>(i) + 1);
  }
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<std::size_t>(top.position)];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    // Out of date where a neighbour was merged since. Hugging Face compares what
    // the merge gives, not its rank; the two can differ and the ids follow it.
    const auto merge = merges_.find(Pair(left.id, right.id));
    if (merge == merges_.end() || merge->second.id != top.id) continue;
    left.id = top.id;
    right.id = -1;
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = top.position;
    add(left.previous, top.position);
    add(top.position, left.next);
  }
  for (std::int64_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    ids->push_back(symbols[static_cast<std::size_t>(i)].id);
  }
}

}  // namespace suites
