#include <gtest/gtest.h>

#include "suites/model/qwen3.h"
#include "suites/model/random_checkpoint.h"

namespace suites {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// 6.95e9 weights in the layers, 1.24e9 in the embedding and the head.
TEST(EstimateDeviceBytes, OfThe8BShape) {
  ModelConfig config = ConfigOfShape("qwen3-8b");
  Qwen3Options options;
  const std::uint64_t full = EstimateDeviceBytes(config, options);
  EXPECT_GT(full, 2 * std::uint64_t{8190000000});
  EXPECT_LT(full, 22 * kGiB);
  options.compute = "fp32";
  EXPECT_GT(EstimateDeviceBytes(config, options), 4 * std::uint64_t{8190000000});
  options.compute = "fp16";
  config.quantization.method = "awq";
  const std::uint64_t packed = EstimateDeviceBytes(config, options);
  EXPECT_GT(packed, std::uint64_t{6950000000} / 2 + 2 * std::uint64_t{1244659712});
  EXPECT_LT(packed, 12 * kGiB);
}

TEST(EstimateDeviceBytes, GrowsWithWhatIsKept) {
  const ModelConfig config = ConfigOfShape("qwen3-8b");
  Qwen3Options options;
  options.max_model_len = 4096;
  const std::uint64_t shorter = EstimateDeviceBytes(config, options);
  options.max_model_len = 8192;
  const std::uint64_t longer = EstimateDeviceBytes(config, options);
  // The cache: 2 (keys, values) 2 bytes 36 layers 8 heads 128 for each position.
  EXPECT_GE(longer - shorter, std::uint64_t{4096} * 2 * 2 * 36 * 8 * 128);
  options.max_model_len = 1 << 30;
  EXPECT_EQ(EstimateDeviceBytes(config, options), [&] {
    options.max_model_len = 40960;
    return EstimateDeviceBytes(config, options);
  }()) << "the model has no more positions";
  EXPECT_EQ(EstimateDeviceBytes(config, options, 200) - EstimateDeviceBytes(config, options, 100), 100u * 151936 * 2);
  options.compute = "fp8";
  EXPECT_THROW(EstimateDeviceBytes(config, options), std::invalid_argument);
}

}  // namespace
}  // namespace suites
