// Which C++ types have bits, and how they become a Trace.
//
// From the start: arithmetic types and enumerations; std::byte; std::complex;
// std::string; contiguous and other ranges of those (std::vector, std::array,
// std::span, C arrays, std::deque, std::vector<bool>), with one part for the
// whole range; ranges of anything else that has bits; std::pair, std::tuple,
// std::optional, std::variant; BitView, NamedBits and Trace; aggregates whose
// every bit is part of their value (std::has_unique_object_representations).
//
// Any other type opts in with a function beside it, found by argument-dependent
// lookup; an adapter for a foreign type may also put it into this namespace:
//
//   void AppendBits(gtest_determinism::Trace& trace, std::string_view name, const Generation& g) {
//     gtest_determinism::AppendPart(trace, gtest_determinism::JoinName(name, "tokens"), g.tokens);
//     gtest_determinism::AppendPart(trace, gtest_determinism::JoinName(name, "logits"), g.logits);
//   }
//
// Refused: a struct with padding bytes (they are nobody's value) or with floats
// or constructors, unless it opts in; long double (it has padding); pointers
// (an address is no result). A pointer inside an aggregate cannot be seen here
// and is compared as the integer that it is: such a struct should opt in.
#ifndef GTEST_DETERMINISM_HAS_BITS_H_
#define GTEST_DETERMINISM_HAS_BITS_H_

#include <array>
#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "gtest_determinism/bits.h"

namespace gtest_determinism {

// "outer" and "inner" give "outer.inner"; an empty one leaves the other; what
// begins with "[" is joined without a dot.
std::string JoinName(std::string_view outer, std::string_view inner);

namespace internal {

template <class T>
concept AdlBits = requires(Trace& trace, std::string_view name, const T& value) {
  AppendBits(trace, name, value);
};

// Types whose values are one element.
template <class T>
concept PlainScalar =
    (std::is_arithmetic_v<T> && !std::same_as<T, long double> && sizeof(T) <= 8) || std::same_as<T, std::byte> ||
    (std::is_enum_v<T> && sizeof(T) <= 8);

template <class T>
struct IsComplex : std::false_type {};
template <class T>
struct IsComplex<std::complex<T>> : std::bool_constant<PlainScalar<T>> {};

template <class T>
concept PlainStruct = std::is_class_v<T> && std::is_aggregate_v<T> && std::is_trivially_copyable_v<T> &&
    std::has_unique_object_representations_v<T> && !std::ranges::range<T>;

// Types that lie in a contiguous range without anything between them.
template <class T>
concept Element = !AdlBits<T> && (PlainScalar<T> || IsComplex<T>::value || PlainStruct<T>);

template <PlainScalar T>
constexpr DType DTypeOf() {
  if constexpr (std::is_enum_v<T> && !std::same_as<T, std::byte>) {
    return DTypeOf<std::underlying_type_t<T>>();
  } else if constexpr (std::same_as<T, std::byte> || std::same_as<T, char>) {
    return DType::kBytes;
  } else if constexpr (std::same_as<T, bool>) {
    return DType::kBool;
  } else if constexpr (std::same_as<T, float>) {
    return DType::kFloat32;
  } else if constexpr (std::same_as<T, double>) {
    return DType::kFloat64;
  } else {
    constexpr bool kSigned = std::is_signed_v<T>;
    switch (sizeof(T)) {
      case 1:
        return kSigned ? DType::kInt8 : DType::kUInt8;
      case 2:
        return kSigned ? DType::kInt16 : DType::kUInt16;
      case 4:
        return kSigned ? DType::kInt32 : DType::kUInt32;
      default:
        return kSigned ? DType::kInt64 : DType::kUInt64;
    }
  }
}

// View of `count` elements at `data`; without `count` of one, as a scalar.
template <Element T>
BitView ViewOf(const T* data, std::optional<std::size_t> count = std::nullopt) {
  BitView view;
  view.data = data;
  view.bytes = count.value_or(1) * sizeof(T);
  if (count) view.shape.push_back(static_cast<std::int64_t>(*count));
  if constexpr (IsComplex<T>::value) {
    view.dtype = DTypeOf<typename T::value_type>();
    view.shape.push_back(2);
  } else if constexpr (PlainScalar<T>) {
    view.dtype = DTypeOf<T>();
  } else {
    view.dtype = DType::kBytes;
    view.shape.push_back(static_cast<std::int64_t>(sizeof(T)));
  }
  return view;
}

template <class T>
struct IsTuple : std::false_type {};
template <class... Ts>
struct IsTuple<std::tuple<Ts...>> : std::true_type {};
template <class A, class B>
struct IsTuple<std::pair<A, B>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsVariant : std::false_type {};
template <class... Ts>
struct IsVariant<std::variant<Ts...>> : std::true_type {};

template <class T>
constexpr bool HasBitsImpl();

template <class T, std::size_t... Index>
constexpr bool AllMembersHaveBits(std::index_sequence<Index...>) {
  if constexpr (IsVariant<T>::value) {
    return (HasBitsImpl<std::remove_cv_t<std::variant_alternative_t<Index, T>>>() && ...);
  } else {
    return (HasBitsImpl<std::remove_cvref_t<std::tuple_element_t<Index, T>>>() && ...);
  }
}

template <class T>
constexpr bool HasBitsImpl() {
  if constexpr (std::same_as<T, BitView> || std::same_as<T, NamedBits> || std::same_as<T, Trace>) {
    return true;
  } else if constexpr (AdlBits<T> || Element<T>) {
    return true;
  } else if constexpr (IsTuple<T>::value) {
    return AllMembersHaveBits<T>(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (IsVariant<T>::value) {
    return AllMembersHaveBits<T>(std::make_index_sequence<std::variant_size_v<T>>{});
  } else if constexpr (IsOptional<T>::value) {
    return HasBitsImpl<typename T::value_type>();
  } else if constexpr (std::ranges::forward_range<const T>) {
    using Value = std::ranges::range_value_t<const T>;
    if constexpr (std::same_as<Value, T>) {
      return false;  // a path is a range of paths
    } else if constexpr (Element<Value>) {
      return true;
    } else {
      // The parts point into the range, so its elements must be objects.
      return HasBitsImpl<std::remove_cv_t<Value>>() &&
             std::is_lvalue_reference_v<std::ranges::range_reference_t<const T>>;
    }
  } else {
    return false;
  }
}

}  // namespace internal

template <class T>
concept HasBits = internal::HasBitsImpl<std::remove_cvref_t<T>>();

// Appends the parts of `value`, named below `name`. The views stay valid while
// `value` lives and is not changed.
template <class T>
void AppendPart(Trace& trace, std::string_view name, const T& value) {
  static_assert(HasBits<T>,
                "gtest_determinism: this type has no bits that can be compared. Return numbers, strings, ranges, "
                "tuples of those or tensors; or define AppendBits(gtest_determinism::Trace&, std::string_view, "
                "const T&) beside the type (see gtest_determinism/has_bits.h). Structs with padding, floats or "
                "constructors, long double and pointers are refused on purpose.");
  if constexpr (!HasBits<T>) {
    return;
  } else if constexpr (std::same_as<T, BitView>) {
    trace.push_back({std::string(name), value});
  } else if constexpr (std::same_as<T, NamedBits>) {
    trace.push_back({JoinName(name, value.name), value.view});
  } else if constexpr (std::same_as<T, Trace>) {
    for (const NamedBits& part : value) AppendPart(trace, name, part);
  } else if constexpr (internal::AdlBits<T>) {
    AppendBits(trace, name, value);
  } else if constexpr (internal::Element<T>) {
    trace.push_back({std::string(name), internal::ViewOf(std::addressof(value))});
  } else if constexpr (internal::IsTuple<T>::value) {
    [&]<std::size_t... Index>(std::index_sequence<Index...>) {
      (AppendPart(trace, JoinName(name, "[" + std::to_string(Index) + "]"), std::get<Index>(value)), ...);
    }
    (std::make_index_sequence<std::tuple_size_v<T>>{});
  } else if constexpr (internal::IsOptional<T>::value) {
    // An empty optional is a part of zero elements, so that it is not the same as no part at all.
    if (value.has_value()) {
      AppendPart(trace, name, *value);
    } else {
      trace.push_back({JoinName(name, "nullopt"), internal::ViewOf(static_cast<const std::byte*>(nullptr), 0)});
    }
  } else if constexpr (internal::IsVariant<T>::value) {
    const std::string indexed = JoinName(name, "alternative" + std::to_string(value.index()));
    std::visit([&](const auto& alternative) { AppendPart(trace, indexed, alternative); }, value);
  } else {
    using Value = std::ranges::range_value_t<const T>;
    if constexpr (internal::Element<Value>) {
      if constexpr (std::ranges::contiguous_range<const T> && std::ranges::sized_range<const T>) {
        trace.push_back({std::string(name), internal::ViewOf(std::ranges::data(value), std::ranges::size(value))});
      } else {
        // std::vector<bool> has no bools to point at either: hold one byte for each.
        using Held = std::conditional_t<std::same_as<Value, bool>, std::uint8_t, Value>;
        auto copy = std::make_shared<std::vector<Held>>();
        for (const auto& element : value) copy->push_back(static_cast<Held>(static_cast<Value>(element)));
        BitView view = internal::ViewOf(copy->data(), copy->size());
        if constexpr (std::same_as<Value, bool>) view.dtype = DType::kBool;
        view.owner = std::move(copy);
        trace.push_back({std::string(name), std::move(view)});
      }
    } else {
      std::size_t i = 0;
      for (const auto& element : value) {
        AppendPart(trace, JoinName(name, "[" + std::to_string(i++) + "]"), element);
      }
    }
  }
}

// The parts of `value`; valid while `value` lives.
template <class T>
Trace TraceOf(const T& value) {
  Trace trace;
  AppendPart(trace, "", value);
  return trace;
}

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_HAS_BITS_H_
