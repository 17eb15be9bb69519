// What random weights are for: a model of any depth whose numbers are those of a
// model, neither vanishing nor overflowing, and whose tokens depend on the prompt.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "suites/checkpoint/checkpoint.h"
#include "suites/model/qwen3.h"
#include "suites/quantize/quantize.h"
#include "tests/suites/quantize/scratch_folder.h"

namespace suites::quantize {
namespace {

// As deep as Qwen3-8B, narrow.
constexpr const char* kDeep =
    "hidden=256,intermediate=768,layers=36,heads=4,kv_heads=2,head_dim=64,vocab=2000,tied=0,positions=512";

// Weights of another source, all multiplied.
class Scaled final : public WeightSource {
 public:
  Scaled(std::unique_ptr<WeightSource> inner, float factor) : inner_(std::move(inner)), factor_(factor) {}
  const ModelConfig& config() const override { return inner_->config(); }
  const nlohmann::json& config_json() const override { return inner_->config_json(); }
  const std::map<std::string, std::string>& files() const override { return inner_->files(); }
  void Read(const TensorInfo& tensor, std::int64_t begin, std::int64_t end, float* out) const override {
    inner_->Read(tensor, begin, end, out);
    if (tensor.shape.size() == 2) {
      for (std::int64_t i = 0; i < (end - begin) * tensor.columns(); ++i) out[i] *= factor_;
    }
  }

 private:
  std::unique_ptr<WeightSource> inner_;
  float factor_;
};

struct Health {
  bool finite = true;
  double largest = 0;                   // input of a matmul
  double logit_deviation = 0;           // standard deviation of the first row
  double gap = 0;                       // between the largest two logits, mean over steps
  std::set<std::int64_t> first_tokens;  // over prompts
  std::set<std::int64_t> tokens;        // over steps
};

Health Examine(const WeightSource& source, OutputFormat format) {
  const ScratchFolder folder;
  Quantize(source, folder.path() / "model", {.format = format});
  const auto checkpoint = OpenCheckpoint(folder.path() / "model");
  Qwen3Options options;
  options.compute = format == OutputFormat::kTorchao ? "bf16" : "fp16";
  options.kernel.family = format == OutputFormat::kTorchao ? "tinygemm" : std::string(NameOf(format));
  const auto engine = Qwen3Engine::Load(*checkpoint, options);
  Health health;
  engine->SetMatmulInputSink([&](int, int, const std::string&, const at::Tensor& x) {
    const double largest = x.abs().max().to(at::kFloat).item<float>();
    health.finite = health.finite && std::isfinite(largest);
    health.largest = std::max(health.largest, largest);
  });
  double gaps = 0;
  int steps = 0;
  for (int prompt = 0; prompt < 6; ++prompt) {
    std::vector<std::int64_t> ids;
    for (int i = 0; i < 24; ++i) ids.push_back((i * 37 + prompt * 131) % 2000);
    const Generation generation = engine->Generate(ids, {.max_tokens = 6});
    health.first_tokens.insert(generation.tokens[0]);
    health.tokens.insert(generation.tokens.begin(), generation.tokens.end());
    for (std::int64_t step = 0; step < 6; ++step) {
      std::vector<float> row = generation.step_logits.Row(step);
      double sum = 0, squares = 0;
      for (const float logit : row) {
        health.finite = health.finite && std::isfinite(logit);
        sum += logit;
        squares += double{logit} * logit;
      }
      const double n = static_cast<double>(row.size());
      health.logit_deviation = std::sqrt(squares / n - sum / n * (sum / n));
      std::partial_sort(row.begin(), row.begin() + 2, row.end(), std::greater<>());
      gaps += row[0] - row[1];
      ++steps;
    }
  }
  health.gap = gaps / steps;
  return health;
}

class RandomModel : public testing::TestWithParam<OutputFormat> {};

TEST_P(RandomModel, BehavesLikeAModel) {
  const Health health = Examine(*RandomWeights(ParseShape(kDeep), 42), GetParam());
  EXPECT_TRUE(health.finite);
  EXPECT_LT(health.largest, 1000);  // fp16 ends at 65504
  // Norm 1, head of deviation 0.02: 0.02 sqrt(256) = 0.32.
  EXPECT_GT(health.logit_deviation, 0.2);
  EXPECT_LT(health.logit_deviation, 0.5);
  EXPECT_GT(health.gap, 0.005);
  EXPECT_GE(health.first_tokens.size(), 4u) << "the prompt matters";
  EXPECT_GE(health.tokens.size(), 8u) << "not one token for ever";
  RecordProperty("largest_activation", std::to_string(health.largest));
  RecordProperty("logit_deviation", std::to_string(health.logit_deviation));
  RecordProperty("gap", std::to_string(health.gap));
}

// Controls: the checks see a model that explodes and one that says nothing.
TEST(RandomModelControl, WeightsTooLargeOrNone) {
  const Health large = Examine(Scaled(RandomWeights(ParseShape(kDeep), 42), 64), OutputFormat::kAwq);
  EXPECT_TRUE(!large.finite || large.largest > 1000);
  const Health none = Examine(Scaled(RandomWeights(ParseShape(kDeep), 42), 0), OutputFormat::kAwq);
  EXPECT_LT(none.logit_deviation, 0.2);
  EXPECT_LT(none.first_tokens.size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(Formats, RandomModel,
                         testing::Values(OutputFormat::kAwq, OutputFormat::kGptq, OutputFormat::kTorchao),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace suites::quantize
