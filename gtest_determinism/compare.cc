#include "gtest_determinism/compare.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "gtest_determinism/diff.h"

namespace gtest_determinism {
namespace {

bool SameForm(const NamedBits& a, const NamedBits& b) {
  return a.name == b.name && a.view.dtype == b.view.dtype && a.view.shape == b.view.shape &&
         a.view.bytes == b.view.bytes;
}

// Whether each part that both traces have is the same in both. Those that lie in one
// space of a device are compared at once, all of them even where the first differs: to
// wait for each takes longer than to compare it. With `until_first` a part that differs
// in form or is compared here ends it; what has not been compared counts as differing.
std::vector<bool> SameParts(const Trace& expected, const Trace& actual, bool until_first) {
  struct Batch {
    const MemorySpace* space;
    std::vector<std::size_t> parts;
    std::vector<BytePair> pairs;
  };
  std::vector<Batch> batches;
  std::vector<bool> same(std::min(expected.size(), actual.size()));
  for (std::size_t i = 0; i < same.size(); ++i) {
    const BitView &a = expected[i].view, &b = actual[i].view;
    if (SameForm(expected[i], actual[i])) {
      if (a.space == b.space && a.space != &HostMemory()) {
        auto batch = std::find_if(batches.begin(), batches.end(), [&](const Batch& x) { return x.space == a.space; });
        if (batch == batches.end()) batch = batches.insert(batch, {a.space, {}, {}});
        batch->parts.push_back(i);
        batch->pairs.push_back({a.data, b.data, a.bytes});
        continue;
      }
      same[i] = a.space == b.space ? a.space->Equal(a.data, b.data, a.bytes) : Compare(a, b).equal;
    }
    if (until_first && !same[i]) return same;
  }
  for (const Batch& batch : batches) {
    const std::vector<bool> equal = batch.space->EqualEach(batch.pairs);
    for (std::size_t k = 0; k < batch.parts.size(); ++k) same[batch.parts[k]] = equal.at(k);
  }
  return same;
}

// Counts the parts that are not the same and returns the index of the first, -1
// if there is none. `same` is of those that both traces have.
int FindDifferentParts(const Trace& expected, const Trace& actual, const std::vector<bool>& same,
                       Divergence& divergence) {
  const std::size_t parts = std::max(expected.size(), actual.size());
  divergence.parts = static_cast<int>(parts);
  int first = -1;
  for (std::size_t i = 0; i < parts; ++i) {
    if (i < same.size() && same[i]) continue;
    if (first < 0) first = static_cast<int>(i);
    ++divergence.different_parts;
  }
  divergence.part_index = first;
  return first;
}

// A part that is there on one side only, or under another name. False if part
// `index` has one name on both sides.
bool DescribeUnmatchedPart(const Trace& expected, const Trace& actual, std::size_t index, Divergence& divergence) {
  const bool in_expected = index < expected.size(), in_actual = index < actual.size();
  divergence.part = in_actual ? actual[index].name : expected[index].name;
  if (in_expected && in_actual && expected[index].name == actual[index].name) return false;
  divergence.diff.equal = false;
  const std::string part = "part '" + divergence.part + "'";
  divergence.diff.mismatch = !in_actual     ? part + " is missing"
                             : !in_expected ? part + " was not expected"
                                            : part + " instead of part '" + expected[index].name + "'";
  return true;
}

}  // namespace

std::optional<Divergence> CompareTraces(const Trace& expected, const Trace& actual) {
  Divergence divergence;
  const int first = FindDifferentParts(expected, actual, SameParts(expected, actual, false), divergence);
  if (first < 0) return std::nullopt;
  const auto index = static_cast<std::size_t>(first);
  if (DescribeUnmatchedPart(expected, actual, index, divergence)) return divergence;
  divergence.diff = Compare(expected[index].view, actual[index].view);
  if (divergence.diff.equal) {
    divergence.diff.equal = false;
    divergence.diff.mismatch = "the bytes differed and then agreed: something still writes to them";
  }
  return divergence;
}

namespace internal {

bool HaveSameBits(const Trace& expected, const Trace& actual) {
  if (expected.size() != actual.size()) return false;
  const std::vector<bool> same = SameParts(expected, actual, true);
  return std::find(same.begin(), same.end(), false) == same.end();
}

Divergence DescribeDifferentDigests(const Trace& expected, const Trace& actual) {
  Divergence divergence;
  std::vector<bool> same(std::min(expected.size(), actual.size()));
  for (std::size_t i = 0; i < same.size(); ++i) same[i] = SameForm(expected[i], actual[i]);
  const int first = FindDifferentParts(expected, actual, same, divergence);
  if (first < 0) {
    divergence.diff.equal = false;
    divergence.diff.mismatch = "another digest; which element is not known, since bytes were not kept (digest_only)";
    return divergence;
  }
  const auto index = static_cast<std::size_t>(first);
  if (!DescribeUnmatchedPart(expected, actual, index, divergence)) {
    // Another dtype or shape: Compare() looks at no byte.
    divergence.diff = Compare(expected[index].view, actual[index].view);
  }
  return divergence;
}

}  // namespace internal
}  // namespace gtest_determinism
