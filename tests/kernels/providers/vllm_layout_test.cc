// Marlin's order of scales and zero points against a slow description of it: what
// column each place holds, written down from where the kernel's threads read.
#include "kernels/providers/vllm_layout.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "kernels/int4_pack.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

constexpr std::int64_t kGroups = 3, kN = 192;

// Place i of a block of 64: rows of eight, eight columns apart.
std::int64_t ColumnOfPlace(std::int64_t i) { return i / 64 * 64 + i % 8 * 8 + i % 64 / 8; }
// One group: place i of a block of 32 belongs to thread i / 8, whose eight are
// the pairs of columns 2 t and 2 t + 1 of each of four tiles of eight columns.
std::int64_t ColumnOfPlaceInOneGroup(std::int64_t i) {
  const std::int64_t thread = i % 32 / 8, tile = i % 8 / 2;
  return i / 32 * 32 + 8 * tile + 2 * thread + i % 2;
}

std::vector<std::uint8_t> RandomCodes(std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint8_t> codes(kGroups * kN);
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.Below(16));
  return codes;
}

at::Tensor Words(const std::vector<std::int32_t>& words) {
  at::Tensor tensor = at::empty({kGroups, kN / 8}, at::kInt);
  std::copy(words.begin(), words.end(), tensor.mutable_data_ptr<std::int32_t>());
  return tensor;
}

std::vector<int> Values(const at::Tensor& tensor) {
  const at::Tensor ints = tensor.to(at::kInt).contiguous();
  return {ints.const_data_ptr<int>(), ints.const_data_ptr<int>() + ints.numel()};
}

TEST(VllmLayout, ScalesOfSeveralGroups) {
  const at::Tensor scales = at::arange(kGroups * kN, at::kHalf).view({kGroups, kN});
  const std::vector<int> placed = Values(vllm::MarlinScales(scales, 384, 128));
  for (std::int64_t g = 0; g < kGroups; ++g) {
    for (std::int64_t i = 0; i < kN; ++i) EXPECT_EQ(placed[g * kN + i], g * kN + ColumnOfPlace(i));
  }
}

TEST(VllmLayout, ScalesOfOneGroup) {
  const at::Tensor scales = at::arange(kN, at::kHalf).view({1, kN});
  const std::vector<int> placed = Values(vllm::MarlinScales(scales, 384, 384));
  for (std::int64_t i = 0; i < kN; ++i) EXPECT_EQ(placed[i], ColumnOfPlaceInOneGroup(i));
  // It is another order than that of several groups.
  EXPECT_NE(placed, Values(vllm::MarlinScales(scales, 384, 128)));
  EXPECT_EQ(std::set<int>(placed.begin(), placed.end()).size(), static_cast<std::size_t>(kN));
}

TEST(VllmLayout, ZerosArePlacedAsScalesAndInterleaved) {
  const std::vector<std::uint8_t> codes = RandomCodes(1);
  at::Tensor zeros = at::empty({kGroups, kN}, at::kInt);
  std::copy(codes.begin(), codes.end(), zeros.mutable_data_ptr<std::int32_t>());
  const at::Tensor words = vllm::MarlinZeros(zeros);
  ASSERT_EQ(words.sizes(), at::IntArrayRef({kGroups, kN / 8}));
  ASSERT_EQ(words.scalar_type(), at::kInt);
  constexpr int kEvenThenOdd[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  for (std::int64_t g = 0; g < kGroups; ++g) {
    for (std::int64_t c = 0; c < kN / 8; ++c) {
      const auto word = static_cast<std::uint32_t>(words[g][c].item<int>());
      for (int nibble = 0; nibble < 8; ++nibble) {
        EXPECT_EQ((word >> (4 * nibble)) & 15u, codes[g * kN + ColumnOfPlace(8 * c + kEvenThenOdd[nibble])]);
      }
    }
  }
}

TEST(VllmLayout, RowsThatAreAddedAtomically) {
  EXPECT_EQ(vllm::MarlinAtomicRows(8, 256), 8);
  EXPECT_EQ(vllm::MarlinAtomicRows(64, 2048), 64);
  EXPECT_EQ(vllm::MarlinAtomicRows(1, 2112), 0);
  EXPECT_EQ(vllm::MarlinAtomicRows(65, 2048), 65);   // a part of 64, a part of 1
  EXPECT_EQ(vllm::MarlinAtomicRows(129, 2048), 1);   // a part of 128 is too large
  EXPECT_EQ(vllm::MarlinAtomicRows(512, 256), 512);  // 8 blocks of 256 columns
  EXPECT_EQ(vllm::MarlinAtomicRows(576, 256), 0);
}

TEST(VllmLayout, UnpacksWhatIsPacked) {
  std::vector<std::uint8_t> codes = RandomCodes(2);
  const std::vector<int> expected(codes.begin(), codes.end());
  EXPECT_EQ(Values(vllm::AwqCodes(Words(PackAwq(codes, kGroups, kN)))), expected);
  // Zero points of 0 among them: stored less one as whole words, they borrow.
  ASSERT_NE(std::count(codes.begin(), codes.end(), 0), 0);
  EXPECT_EQ(Values(vllm::GptqZeros(Words(PackGptqZeros(codes, kGroups, kN, true)), true)), expected);
  EXPECT_EQ(Values(vllm::GptqZeros(Words(PackGptqZeros(codes, kGroups, kN, false)), false)), expected);
  EXPECT_NE(Values(vllm::GptqZeros(Words(PackGptqZeros(codes, kGroups, kN, true)), false)), expected);
  const at::Tensor columns = vllm::AwqCodes(Words(PackAwq(codes, kGroups, kN)));
  EXPECT_TRUE(at::equal(vllm::PackColumns(columns), Words(PackGptqZeros(codes, kGroups, kN, false))));
}

}  // namespace
}  // namespace kernels
