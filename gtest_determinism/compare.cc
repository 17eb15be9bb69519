#include "gtest_determinism/compare.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "gtest_determinism/diff.h"

namespace gtest_determinism {
namespace {

bool SameForm(const NamedBits& a, const NamedBits& b) {
  return a.name == b.name && a.view.dtype == b.view.dtype && a.view.shape == b.view.shape &&
         a.view.bytes == b.view.bytes;
}

bool SameBits(const NamedBits& a, const NamedBits& b) {
  if (!SameForm(a, b)) return false;
  if (a.view.space == b.view.space) return a.view.space->Equal(a.view.data, b.view.data, a.view.bytes);
  return Compare(a.view, b.view).equal;
}

// Counts the parts that are not `same` and returns the index of the first, -1
// if there is none.
template <class Same>
int FindDifferentParts(const Trace& expected, const Trace& actual, const Same& same, Divergence& divergence) {
  const std::size_t common = std::min(expected.size(), actual.size());
  const std::size_t parts = std::max(expected.size(), actual.size());
  divergence.parts = static_cast<int>(parts);
  int first = -1;
  for (std::size_t i = 0; i < parts; ++i) {
    if (i < common && same(expected[i], actual[i])) continue;
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
  const int first = FindDifferentParts(expected, actual, SameBits, divergence);
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
  return std::equal(expected.begin(), expected.end(), actual.begin(), actual.end(), SameBits);
}

Divergence DescribeDifferentDigests(const Trace& expected, const Trace& actual) {
  Divergence divergence;
  const int first = FindDifferentParts(expected, actual, SameForm, divergence);
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
