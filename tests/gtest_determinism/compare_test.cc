#include "gtest_determinism/compare.h"

#include <gmock/gmock.h>
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

// A space that notes how it is asked.
class AskedMemory final : public MemorySpace {
 public:
  std::string_view Name() const override { return "asked"; }
  std::shared_ptr<void> Allocate(std::size_t bytes) const override { return HostMemory().Allocate(bytes); }
  void Copy(void* to, const void* from, std::size_t n) const override { HostMemory().Copy(to, from, n); }
  void CopyToHost(void* to, const void* from, std::size_t n) const override { HostMemory().Copy(to, from, n); }
  void Fill(void* to, std::uint8_t value, std::size_t n) const override { HostMemory().Fill(to, value, n); }
  bool Equal(const void* a, const void* b, std::size_t n) const override {
    ++single;
    return HostMemory().Equal(a, b, n);
  }
  std::vector<bool> EqualEach(std::span<const BytePair> pairs) const override {
    batches.push_back(pairs.size());
    return HostMemory().EqualEach(pairs);
  }
  void Synchronize() const override {}

  mutable int single = 0;
  mutable std::vector<std::size_t> batches;
};

class PartsOfSpacesTest : public testing::Test {
 protected:
  // Six parts by turns: in `one_`, in `other_`, on the host.
  void SetUp() override {
    for (std::size_t i = 0; i < 6; ++i) values_.push_back({{"p" + std::to_string(i)}, {1, static_cast<float>(i)}});
    changed_ = values_;
  }
  Trace In(const std::vector<std::pair<std::string, std::vector<float>>>& values) const {
    Trace trace;
    for (const auto& [name, floats] : values) {
      AppendPart(trace, name, floats);
      const MemorySpace* const spaces[] = {&one_, &other_, &HostMemory()};
      trace.back().view.space = spaces[(trace.size() - 1) % 3];
    }
    return trace;
  }
  AskedMemory one_, other_;
  std::vector<std::pair<std::string, std::vector<float>>> values_, changed_;
};

TEST_F(PartsOfSpacesTest, ThoseOfOneSpaceAreComparedAtOnce) {
  EXPECT_FALSE(CompareTraces(In(values_), In(changed_)).has_value());
  EXPECT_THAT(one_.batches, testing::ElementsAre(2u));
  EXPECT_THAT(other_.batches, testing::ElementsAre(2u));
  EXPECT_EQ(one_.single + other_.single, 0);
}

TEST_F(PartsOfSpacesTest, TheFirstAndTheNumberAreThoseOfTheTrace) {
  for (std::size_t first = 0; first < 6; ++first) {
    changed_ = values_;
    for (std::size_t i = first; i < 6; i += 2) changed_[i].second[1] = 9;
    const std::optional<Divergence> divergence = CompareTraces(In(values_), In(changed_));
    ASSERT_TRUE(divergence.has_value());
    EXPECT_EQ(divergence->part_index, static_cast<int>(first));
    EXPECT_EQ(divergence->part, "p" + std::to_string(first));
    EXPECT_EQ(divergence->different_parts, static_cast<int>((7 - first) / 2));
    EXPECT_EQ(divergence->parts, 6);
    EXPECT_EQ(divergence->diff.element, 1);
    EXPECT_EQ(divergence->diff.expected_value, std::to_string(first));
    EXPECT_FALSE(internal::HaveSameBits(In(values_), In(changed_)));
  }
  EXPECT_TRUE(internal::HaveSameBits(In(values_), In(values_)));
}

// Parts of other forms are not looked at, nor are those of which the bytes lie in
// two spaces compared by either.
TEST_F(PartsOfSpacesTest, OnlyWhatCanBeComparedThereIs) {
  changed_[0].second.push_back(3);
  Trace actual = In(changed_);
  actual[1].view.space = &HostMemory();
  const std::optional<Divergence> divergence = CompareTraces(In(values_), actual);
  ASSERT_TRUE(divergence.has_value());
  EXPECT_EQ(divergence->diff.mismatch, "float32[3] instead of float32[2]");
  EXPECT_EQ(divergence->different_parts, 1);
  EXPECT_THAT(one_.batches, testing::ElementsAre(1u));
  EXPECT_THAT(other_.batches, testing::ElementsAre(1u));
}

TEST_F(PartsOfSpacesTest, NoDeviceIsAskedWhenTheHostKnows) {
  changed_[5].second[0] = 2;
  EXPECT_FALSE(internal::HaveSameBits(In(values_), In(changed_)));
  EXPECT_TRUE(one_.batches.empty() && other_.batches.empty());
}

TEST(CompareTracesTest, ShapeOfAPart) {
  const std::vector<std::pair<std::string, std::vector<float>>> a = {{"x", {1, 2}}}, b = {{"x", {1, 2, 3}}};
  EXPECT_EQ(CompareTraces(Parts(a), Parts(b))->diff.mismatch, "float32[3] instead of float32[2]");
}

}  // namespace
}  // namespace gtest_determinism
