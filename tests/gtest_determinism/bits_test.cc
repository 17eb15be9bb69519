#include "gtest_determinism/bits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <complex>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "far_memory.h"
#include "gtest_determinism/has_bits.h"

namespace user {

struct Padded {  // 3 bytes between
  char a;
  int b;
};
struct WithFloats {
  float x, y;
};
struct Dense {
  std::uint32_t a, b;
};
struct OptedIn {
  std::vector<float> logits;
  std::vector<std::int64_t> tokens;
};
void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const OptedIn& value) {
  gtest_determinism::AppendPart(trace, gtest_determinism::JoinName(name, "logits"), value.logits);
  gtest_determinism::AppendPart(trace, gtest_determinism::JoinName(name, "tokens"), value.tokens);
}
enum class Color : std::int16_t { kRed = 3 };

}  // namespace user

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

static_assert(HasBits<float> && HasBits<bool> && HasBits<std::int64_t> && HasBits<char> && HasBits<std::byte>);
static_assert(HasBits<const float&> && HasBits<std::vector<float>&&>);
static_assert(HasBits<std::vector<float>> && HasBits<std::array<double, 3>> && HasBits<float[2][3]>);
static_assert(HasBits<std::span<const std::int32_t>> && HasBits<std::string> && HasBits<std::string_view>);
static_assert(HasBits<std::vector<bool>> && HasBits<std::list<float>> && HasBits<std::deque<int>>);
static_assert(HasBits<std::vector<std::vector<std::string>>> && HasBits<std::map<int, float>>);
static_assert(HasBits<std::tuple<int, std::optional<float>>> && HasBits<std::variant<int, std::string>>);
static_assert(HasBits<std::complex<float>> && HasBits<std::vector<std::complex<double>>>);
static_assert(HasBits<user::Dense> && HasBits<user::OptedIn> && HasBits<std::vector<user::OptedIn>>);
static_assert(HasBits<user::Color> && HasBits<BitView> && HasBits<NamedBits> && HasBits<Trace>);

static_assert(!HasBits<user::Padded>, "padding is nobody's value");
static_assert(!HasBits<std::vector<user::Padded>>);
static_assert(!HasBits<std::tuple<int, user::Padded>>);
static_assert(!HasBits<std::optional<user::Padded>>);
static_assert(!HasBits<user::WithFloats>, "a struct with floats opts in");
static_assert(!HasBits<long double>, "long double has padding");
static_assert(!HasBits<std::vector<long double>> && !HasBits<std::complex<long double>>);
static_assert(!HasBits<int*> && !HasBits<std::vector<float*>>, "an address is no result");
static_assert(!HasBits<std::unique_ptr<int>> && !HasBits<std::reference_wrapper<int>>);
static_assert(!HasBits<std::function<int()>> && !HasBits<std::filesystem::path>);

template <class T>
T At(const BitView& view, std::size_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(view.data) + i * sizeof(T), sizeof(T));
  return value;
}

TEST(HasBits, ScalarIsAViewOfItself) {
  const double value = 1.5;
  const Trace trace = TraceOf(value);
  ASSERT_EQ(trace.size(), 1u);
  EXPECT_EQ(trace[0].name, "");
  EXPECT_EQ(trace[0].view.data, &value);
  EXPECT_EQ(trace[0].view.bytes, 8u);
  EXPECT_EQ(trace[0].view.dtype, DType::kFloat64);
  EXPECT_THAT(trace[0].view.shape, IsEmpty());
}

TEST(HasBits, ContiguousRangeIsOneViewWithoutACopy) {
  const std::vector<std::int16_t> values = {1, 2, 3};
  const Trace trace = TraceOf(values);
  ASSERT_EQ(trace.size(), 1u);
  EXPECT_EQ(trace[0].view.data, values.data());
  EXPECT_EQ(trace[0].view.bytes, 6u);
  EXPECT_EQ(trace[0].view.dtype, DType::kInt16);
  EXPECT_THAT(trace[0].view.shape, ElementsAre(3));
}

TEST(HasBits, DTypesFollowTheType) {
  EXPECT_EQ(TraceOf(true)[0].view.dtype, DType::kBool);
  EXPECT_EQ(TraceOf('a')[0].view.dtype, DType::kBytes);
  EXPECT_EQ(TraceOf(std::int8_t{1})[0].view.dtype, DType::kInt8);
  EXPECT_EQ(TraceOf(std::uint8_t{1})[0].view.dtype, DType::kUInt8);
  EXPECT_EQ(TraceOf(1)[0].view.dtype, DType::kInt32);
  EXPECT_EQ(TraceOf(1u)[0].view.dtype, DType::kUInt32);
  EXPECT_EQ(TraceOf(1ll)[0].view.dtype, DType::kInt64);
  EXPECT_EQ(TraceOf(1ull)[0].view.dtype, DType::kUInt64);
  EXPECT_EQ(TraceOf(1.0f)[0].view.dtype, DType::kFloat32);
  EXPECT_EQ(TraceOf(user::Color::kRed)[0].view.dtype, DType::kInt16);
  EXPECT_EQ(TraceOf(std::string("ab"))[0].view.dtype, DType::kBytes);
}

TEST(HasBits, RangesThatAreNotContiguousAreHeldByTheirView) {
  const std::list<float> list = {1, 2};
  const Trace floats = TraceOf(list);
  ASSERT_EQ(floats.size(), 1u);
  EXPECT_NE(floats[0].view.owner, nullptr);
  EXPECT_EQ(At<float>(floats[0].view, 1), 2.0f);

  const std::vector<bool> bits = {true, false, true};
  const Trace bools = TraceOf(bits);
  EXPECT_EQ(bools[0].view.dtype, DType::kBool);
  EXPECT_EQ(bools[0].view.bytes, 3u);
  EXPECT_EQ(At<std::uint8_t>(bools[0].view, 2), 1);
}

TEST(HasBits, NestedPartsBearTheirPath) {
  const std::tuple<int, std::vector<std::vector<float>>> value{1, {{1, 2}, {3}}};
  std::vector<std::string> names;
  for (const NamedBits& part : TraceOf(value)) names.push_back(part.name);
  EXPECT_THAT(names, ElementsAre("[0]", "[1][0]", "[1][1]"));

  const std::vector<user::OptedIn> generations(2);
  names.clear();
  Trace trace;
  AppendPart(trace, "run", generations);
  for (const NamedBits& part : trace) names.push_back(part.name);
  EXPECT_THAT(names, ElementsAre("run[0].logits", "run[0].tokens", "run[1].logits", "run[1].tokens"));
}

TEST(HasBits, ComplexIsPairsOfFloats) {
  const std::vector<std::complex<float>> values = {{1, 2}, {3, 4}};
  const BitView view = TraceOf(values)[0].view;
  EXPECT_EQ(view.dtype, DType::kFloat32);
  EXPECT_THAT(view.shape, ElementsAre(2, 2));
  EXPECT_EQ(view.bytes, 16u);
}

TEST(HasBits, StructsWithoutPaddingAreBytes) {
  const std::vector<user::Dense> values(3);
  const BitView view = TraceOf(values)[0].view;
  EXPECT_EQ(view.dtype, DType::kBytes);
  EXPECT_THAT(view.shape, ElementsAre(3, 8));
}

TEST(HasBits, EmptyOptionalIsNotAbsent) {
  const std::optional<float> none;
  EXPECT_EQ(TraceOf(none).size(), 1u);
  EXPECT_EQ(TraceOf(none)[0].name, "nullopt");
  EXPECT_EQ(TraceOf(none)[0].view.bytes, 0u);
  EXPECT_EQ(TraceOf(std::optional<float>(1))[0].name, "");
}

TEST(HasBits, VariantNamesItsAlternative) {
  const std::variant<int, float> value = 1.0f;
  EXPECT_EQ(TraceOf(value)[0].name, "alternative1");
}

TEST(DTypeTest, SizesAndNames) {
  EXPECT_EQ(SizeOf(DType::kBFloat16), 2u);
  EXPECT_EQ(SizeOf(DType::kUInt64), 8u);
  EXPECT_EQ(NameOf(DType::kBFloat16), "bfloat16");
  EXPECT_EQ(NameOf(DType::kBytes), "bytes");
}

TEST(HostMemoryTest, ComparesAndFills) {
  const MemorySpace& host = HostMemory();
  const std::shared_ptr<void> a = host.Allocate(100), b = host.Allocate(100);
  host.Fill(a.get(), 7, 100);
  host.Copy(b.get(), a.get(), 100);
  EXPECT_TRUE(host.Equal(a.get(), b.get(), 100));
  static_cast<char*>(b.get())[99] = 8;
  EXPECT_FALSE(host.Equal(a.get(), b.get(), 100));
  EXPECT_TRUE(host.Equal(nullptr, nullptr, 0));
}

TEST(MemorySpaceTest, PairsAreEqualEachForItself) {
  std::vector<unsigned char> a = {1, 2, 3, 4}, b = {1, 2, 9, 4};
  const FarMemory far;
  unsigned char *fa = static_cast<unsigned char*>(FarMemory::Far(a.data())),
                *fb = static_cast<unsigned char*>(FarMemory::Far(b.data()));
  const BytePair pairs[] = {{fa, fb, 2}, {fa, fb, 3}, {fa + 3, fb + 3, 1}, {fa, fb, 0}, {fa + 2, fb + 2, 1}};
  EXPECT_THAT(far.EqualEach(pairs), ElementsAre(true, false, true, true, false));
  EXPECT_EQ(far.comparisons, 5);
  EXPECT_THAT(far.EqualEach({}), IsEmpty());
}

TEST(MemorySpaceTest, ElementsHoldingAByteAreFoundInAnySpace) {
  // More than one of the pieces in which another space is read.
  std::vector<std::uint16_t> words(700001, 0x1234);
  for (const std::size_t i : {std::size_t{0}, std::size_t{524287}, std::size_t{524288}, std::size_t{700000}}) {
    words[i] = 0xa5a5;
  }
  words[5] = 0xa500;  // half of it
  const FarMemory far;
  const std::vector<std::int64_t> among = {0, 1, 5, 524288};
  const std::pair<const MemorySpace*, const void*> spaces[] = {{&HostMemory(), words.data()},
                                                               {&far, FarMemory::Far(words.data())}};
  for (const auto& [space, data] : spaces) {
    EXPECT_THAT(space->ElementsHolding(data, words.size(), 2, 0xa5), ElementsAre(0, 524287, 524288, 700000));
    EXPECT_THAT(space->ElementsHolding(data, words.size(), 2, 0xa5, &among), ElementsAre(0, 524288));
    EXPECT_THAT(space->ElementsHolding(data, words.size(), 2, 0x77), IsEmpty());
    EXPECT_THAT(space->ElementsHolding(data, 0, 2, 0xa5), IsEmpty());
  }
}

}  // namespace
}  // namespace gtest_determinism
