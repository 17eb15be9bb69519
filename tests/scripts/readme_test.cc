// The first code block of README.md, with stand-ins for the names that it takes
// from its reader. What the block itself includes must be enough for the rest.
#include <cstddef>
#include <vector>

namespace {

using Matrix = std::vector<float>;  // square, row-major

constexpr std::size_t kSize = 16;

[[maybe_unused]] const Matrix x(kSize * kSize, 0.1f);
[[maybe_unused]] const Matrix w(kSize * kSize, 0.3f);

// Two slices of k, added in one order.
[[maybe_unused]] Matrix SplitKMatmul(const Matrix& a, const Matrix& b) {
  Matrix y(kSize * kSize);
  for (std::size_t m = 0; m < kSize; ++m) {
    for (std::size_t n = 0; n < kSize; ++n) {
      float slices[2] = {};
      for (std::size_t k = 0; k < kSize; ++k) slices[2 * k / kSize] += a[m * kSize + k] * b[k * kSize + n];
      y[m * kSize + n] = slices[0] + slices[1];
    }
  }
  return y;
}

// A sum whose order of addition differs from call to call, as threads that meet
// at an atomic make it, but on every machine: 1 is lost beside 2^24.
[[maybe_unused]] float AtomicSum() {
  static int calls = 0;
  const float terms[] = {1.0f, 16777216.0f, -16777216.0f};
  float sum = 0;
  const int first = calls++;
  for (int i = 0; i < 3; ++i) sum += terms[(first + i) % 3];
  return sum;
}

}  // namespace

#include "readme_code_block.inc"
