#include "gtest_determinism/has_bits.h"

namespace gtest_determinism {

std::string JoinName(std::string_view outer, std::string_view inner) {
  std::string name(outer);
  if (!outer.empty() && !inner.empty() && inner.front() != '[') name += '.';
  name += inner;
  return name;
}

}  // namespace gtest_determinism
