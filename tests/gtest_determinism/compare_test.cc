#include "gtest_determinism/compare.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "far_memory.h"
#include "gtest_determinism/explain.h"
#include "gtest_determinism/has_bits.h"

namespace gtest_determinism {
namespace {

Trace Parts(const std::vector<std::pair<std::string, std::vector<float>>>& parts) {
  Trace trace;
  for (const auto& [name, values] : parts) AppendPart(trace, name, values);
  return trace;
}

TEST(CompareTracesTest, EqualTraces) {
  const std::vector<std::pair<std::string, std::vector<float>>> a = {{"x", {1, 2}}, {"y", {3}}}, b = a;
  EXPECT_FALSE(CompareTraces(Parts(a), Parts(b)).has_value());
}

TEST(CompareTracesTest, FirstPartThatDiffersAndHowMany) {
  const std::vector<std::pair<std::string, std::vector<float>>> a = {{"x", {1}}, {"y", {2}}, {"z", {3}}};
  auto b = a;
  b[1].second[0] = 5;
  b[2].second[0] = 6;
  const std::optional<Divergence> divergence = CompareTraces(Parts(a), Parts(b));
  ASSERT_TRUE(divergence.has_value());
  EXPECT_EQ(divergence->part, "y");
  EXPECT_EQ(divergence->part_index, 1);
  EXPECT_EQ(divergence->different_parts, 2);
  EXPECT_EQ(divergence->parts, 3);
  EXPECT_EQ(divergence->diff.actual_value, "5");
  EXPECT_EQ(Describe(*divergence),
            "'y', element 0; 0x40a00000 (5) instead of 0x40000000 (2), 10485760 ulp; 1 of 1 elements differ, max "
            "|difference| 3, max 10485760 ulp; 2 of 3 parts differ");
}

TEST(CompareTracesTest, PartsThatAreMissingAddedOrRenamed) {
  const std::vector<std::pair<std::string, std::vector<float>>> a = {{"x", {1}}, {"y", {2}}};
  const auto fewer = std::vector(a.begin(), a.begin() + 1);
  auto renamed = a;
  renamed[0].first = "w";
  EXPECT_EQ(CompareTraces(Parts(a), Parts(fewer))->diff.mismatch, "part 'y' is missing");
  EXPECT_EQ(CompareTraces(Parts(fewer), Parts(a))->diff.mismatch, "part 'y' was not expected");
  EXPECT_EQ(CompareTraces(Parts(a), Parts(renamed))->diff.mismatch, "part 'w' instead of part 'x'");
}

// What a run after the first that differs is compared by.
TEST(CompareTracesTest, WhetherAlone) {
  const std::vector<std::pair<std::string, std::vector<float>>> a = {{"x", {1}}, {"y", {2}}};
  auto renamed = a, other = a;
  renamed[0].first = "w";
  other[1].second[0] = 3;
  EXPECT_TRUE(internal::HaveSameBits(Parts(a), Parts(a)));
  EXPECT_FALSE(internal::HaveSameBits(Parts(a), Parts(other)));
  EXPECT_FALSE(internal::HaveSameBits(Parts(a), Parts(renamed)));
  EXPECT_FALSE(internal::HaveSameBits(Parts(a), Parts(std::vector(a.begin(), a.begin() + 1))));
}

TEST(CompareTracesTest, WhetherAloneLeavesBytesInTheirSpace) {
  std::vector<float> x = {1, 2}, y = {1, 3};
  const FarMemory far;
  Trace expected = TraceOf(x), actual = TraceOf(y);
  for (const auto& [trace, values] : {std::pair(&expected, &x), std::pair(&actual, &y)}) {
    (*trace)[0].view.space = &far;
    (*trace)[0].view.data = FarMemory::Far(values->data());
  }
  EXPECT_FALSE(internal::HaveSameBits(expected, actual));
  EXPECT_EQ(far.copies_to_host, 0);
  EXPECT_TRUE(CompareTraces(expected, actual).has_value());
  EXPECT_GT(far.copies_to_host, 0);
}

TEST(CompareTracesTest, ShapeOfAPart) {
  const std::vector<std::pair<std::string, std::vector<float>>> a = {{"x", {1, 2}}}, b = {{"x", {1, 2, 3}}};
  EXPECT_EQ(CompareTraces(Parts(a), Parts(b))->diff.mismatch, "float32[3] instead of float32[2]");
}

}  // namespace
}  // namespace gtest_determinism
