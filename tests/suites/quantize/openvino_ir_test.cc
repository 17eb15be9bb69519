// The IR that Quantize() writes, run by the runtime at f32, against a forward
// pass in double over the constants of the file.
#include "suites/quantize/openvino_ir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/runtime/core.hpp>
#include <string>
#include <vector>

#include "suites/openvino/openvino_engine.h"
#include "suites/quantize/half.h"
#include "tests/suites/quantize/scratch_folder.h"

namespace suites::quantize {
namespace {

using Matrix = std::vector<std::vector<double>>;  // [rows][columns]

// Constants of an IR by name, dequantized by the formula of the format.
class Constants {
 public:
  explicit Constants(const std::filesystem::path& xml) {
    model_ = ov::Core().read_model(xml.string());
    for (const auto& node : model_->get_ordered_ops()) {
      if (auto constant = std::dynamic_pointer_cast<ov::op::v0::Constant>(node)) {
        constants_[constant->get_friendly_name()] = constant;
      }
    }
  }
  std::vector<double> Vector(const std::string& name) const {
    const auto& constant = constants_.at(name);
    const auto* values = static_cast<const float*>(constant->get_data_ptr());
    return {values, values + constant->get_byte_size() / sizeof(float)};
  }
  Matrix Dense(const std::string& name) const {
    const auto& constant = constants_.at(name);
    const auto* bits = static_cast<const std::uint16_t*>(constant->get_data_ptr());
    Matrix rows(constant->get_shape()[0], std::vector<double>(constant->get_shape()[1]));
    for (auto& row : rows) {
      for (double& value : row) value = FloatFromHalf(*bits++);
    }
    return rows;
  }
  Matrix Linear(const std::string& module) const {  // [out][in]
    const auto& codes = constants_.at(module + ".weight");
    const ov::Shape shape = codes->get_shape();
    const auto* scales = static_cast<const std::uint16_t*>(constants_.at(module + ".weight/scale")->get_data_ptr());
    const auto nibble = [](const ov::op::v0::Constant& constant, std::size_t i) {
      return (static_cast<const std::uint8_t*>(constant.get_data_ptr())[i / 2] >> (i % 2 * 4)) & 15;
    };
    Matrix rows(shape[0], std::vector<double>(shape[1] * shape[2]));
    for (std::size_t n = 0; n < shape[0]; ++n) {
      for (std::size_t k = 0; k < rows[n].size(); ++k) {
        const std::size_t group = n * shape[1] + k / shape[2];
        const int code = nibble(*codes, n * rows[n].size() + k);
        const int zero = nibble(*constants_.at(module + ".weight/zero_point"), group);
        rows[n][k] = (code - zero) * double{FloatFromHalf(scales[group])};
      }
    }
    return rows;
  }
  std::size_t operators() const { return model_->get_ops().size(); }

 private:
  std::shared_ptr<ov::Model> model_;
  std::map<std::string, std::shared_ptr<ov::op::v0::Constant>> constants_;
};

std::vector<double> Multiply(const Matrix& matrix, const std::vector<double>& x) {
  std::vector<double> y;
  for (const auto& row : matrix) {
    double sum = 0;
    for (std::size_t i = 0; i < row.size(); ++i) sum += row[i] * x[i];
    y.push_back(sum);
  }
  return y;
}

std::vector<double> Norm(const std::vector<double>& x, const std::vector<double>& weight, double eps) {
  double square = 0;
  for (double value : x) square += value * value;
  const double inverse = 1 / std::sqrt(square / static_cast<double>(x.size()) + eps);
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) y.push_back(weight[i] * (x[i] * inverse));
  return y;
}

// Qwen3 after its paper's description of the layers, position by position.
class Reference {
 public:
  Reference(const ModelConfig& config, const Constants& constants) : config_(config), constants_(constants) {}

  // Logits of every position.
  Matrix Forward(const std::vector<std::int64_t>& ids) const {
    const Matrix embedding = constants_.Dense("model.embed_tokens.weight");
    Matrix hidden;
    for (std::int64_t id : ids) hidden.push_back(embedding[id]);
    for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) Layer("model.layers." + std::to_string(i), hidden);
    const Matrix head = config_.tie_word_embeddings ? embedding : constants_.Dense("lm_head.weight");
    Matrix logits;
    for (const auto& x : hidden) {
      logits.push_back(Multiply(head, Norm(x, constants_.Vector("model.norm.weight"), config_.rms_norm_eps)));
    }
    return logits;
  }

 private:
  // Heads of one position, with a norm and a rotation where they have them.
  Matrix Heads(const std::vector<double>& x, const std::vector<double>* norm, std::size_t position) const {
    const auto size = static_cast<std::size_t>(config_.head_dim);
    Matrix heads;
    for (std::size_t at = 0; at < x.size(); at += size) {
      std::vector<double> head(x.begin() + at, x.begin() + at + size);
      if (norm != nullptr) {
        head = Norm(head, *norm, config_.rms_norm_eps);
        const std::vector<double> plain = head;
        for (std::size_t i = 0; i < size; ++i) {
          const std::size_t pair = i % (size / 2);
          const double angle =
              static_cast<double>(position) *
              std::pow(config_.rope_theta, -2.0 * static_cast<double>(pair) / static_cast<double>(size));
          const double partner = i < size / 2 ? -plain[i + size / 2] : plain[i - size / 2];
          head[i] = plain[i] * std::cos(angle) + partner * std::sin(angle);
        }
      }
      heads.push_back(head);
    }
    return heads;
  }

  void Layer(const std::string& name, Matrix& hidden) const {
    const std::string attention = name + ".self_attn";
    const auto query_norm = constants_.Vector(attention + ".q_norm.weight");
    const auto key_norm = constants_.Vector(attention + ".k_norm.weight");
    const Matrix q = constants_.Linear(attention + ".q_proj"), k = constants_.Linear(attention + ".k_proj");
    const Matrix v = constants_.Linear(attention + ".v_proj"), o = constants_.Linear(attention + ".o_proj");
    std::vector<Matrix> keys, values;
    for (std::size_t position = 0; position < hidden.size(); ++position) {
      auto& x = hidden[position];
      const auto input = Norm(x, constants_.Vector(name + ".input_layernorm.weight"), config_.rms_norm_eps);
      const Matrix queries = Heads(Multiply(q, input), &query_norm, position);
      keys.push_back(Heads(Multiply(k, input), &key_norm, position));
      values.push_back(Heads(Multiply(v, input), nullptr, position));
      std::vector<double> joined;
      for (std::size_t h = 0; h < queries.size(); ++h) {
        const std::size_t shared = h / (queries.size() / keys[0].size());
        std::vector<double> weights;
        for (const Matrix& key : keys) {
          double dot = 0;
          for (std::size_t i = 0; i < queries[h].size(); ++i) dot += queries[h][i] * key[shared][i];
          weights.push_back(dot / std::sqrt(static_cast<double>(config_.head_dim)));
        }
        const double largest = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (double& weight : weights) sum += weight = std::exp(weight - largest);
        for (std::size_t i = 0; i < queries[h].size(); ++i) {
          double mixed = 0;
          for (std::size_t p = 0; p < weights.size(); ++p) mixed += weights[p] / sum * values[p][shared][i];
          joined.push_back(mixed);
        }
      }
      Accumulate(x, Multiply(o, joined));
    }
    const Matrix gate = constants_.Linear(name + ".mlp.gate_proj"), up = constants_.Linear(name + ".mlp.up_proj");
    const Matrix down = constants_.Linear(name + ".mlp.down_proj");
    for (auto& x : hidden) {
      const auto input = Norm(x, constants_.Vector(name + ".post_attention_layernorm.weight"), config_.rms_norm_eps);
      std::vector<double> gated = Multiply(gate, input);
      const std::vector<double> raised = Multiply(up, input);
      for (std::size_t i = 0; i < gated.size(); ++i) gated[i] *= raised[i] / (1 + std::exp(-gated[i]));
      Accumulate(x, Multiply(down, gated));
    }
  }

  static void Accumulate(std::vector<double>& x, const std::vector<double>& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  const ModelConfig& config_;
  const Constants& constants_;
};

class OpenVinoIr : public testing::TestWithParam<const char*> {};

TEST_P(OpenVinoIr, LogitsAgreeWithAForwardPassInDouble) {
  const ScratchFolder folder;
  const auto output = folder.path() / "model";
  const auto source = RandomWeights(ParseShape(GetParam()), 11);
  Quantize(*source, output, {.format = OutputFormat::kOpenVino});

  std::vector<std::int64_t> ids;
  for (int i = 0; i < 24; ++i) ids.push_back((i * 89 + 5) % 300);
  const Constants constants(output / "openvino_model.xml");
  const Matrix expected = Reference(source->config(), constants).Forward(ids);

  const auto engine = OpenVinoEngine::Load(output, {.exact_f32 = true, .profile = true});
  const Generation prefill = engine->Generate(ids, {.max_tokens = 0, .all_prompt_logits = true});
  // The graph is of the forms that the runtime fuses.
  const reporters::KernelProfile profile = engine->TakeProfile();
  EXPECT_EQ(profile.expected_count, 7 * source->config().num_hidden_layers);
  for (const char* fused : {"RMS", "RoPE", "ScaledDotProductAttentionWithKVCache"}) {
    EXPECT_TRUE(std::ranges::any_of(profile.kernels, [&](const auto& k) { return k.name.starts_with(fused); }))
        << fused;
  }
  // The first half at once, the second one token at a time over the states.
  const std::vector<std::int64_t> head(ids.begin(), ids.begin() + 12), tail(ids.begin() + 12, ids.end());
  const Generation stepped = engine->Generate(head, {.max_tokens = 12, .forced_ids = tail});

  double largest_logit = 0, in_prefill = 0, in_steps = 0, shifted = 0;
  for (std::size_t p = 0; p < ids.size(); ++p) {
    const std::vector<float> row = prefill.prompt_logits.Row(static_cast<std::int64_t>(p));
    const std::vector<float> step =
        p < 11 || p == 23 ? row : stepped.step_logits.Row(static_cast<std::int64_t>(p) - 11);
    for (std::size_t i = 0; i < row.size(); ++i) {
      largest_logit = std::max(largest_logit, std::abs(expected[p][i]));
      in_prefill = std::max(in_prefill, std::abs(row[i] - expected[p][i]));
      in_steps = std::max(in_steps, std::abs(step[i] - expected[p][i]));
      shifted = std::max(shifted, std::abs(row[i] - expected[(p + 1) % ids.size()][i]));
    }
  }
  // float32 over sums of at most 384 terms in two layers; logits are near 1.
  EXPECT_GT(largest_logit, 0.5);
  EXPECT_LE(in_prefill, 1e-4);
  EXPECT_LE(in_steps, 1e-4);
  EXPECT_GT(shifted, 0.1) << "control: logits of another position";
}

std::string NameOfShape(const testing::TestParamInfo<const char*>& info) {
  const char* names[] = {"GroupedTied", "UngroupedUntied", "OneKeyHead"};
  return names[info.index];
}
INSTANTIATE_TEST_SUITE_P(
    Shapes, OpenVinoIr,
    testing::Values("hidden=256,intermediate=384,layers=2,heads=4,kv_heads=2,head_dim=64,vocab=320,tied=1",
                    "hidden=128,intermediate=256,layers=2,heads=4,kv_heads=4,head_dim=32,vocab=320,tied=0",
                    "hidden=128,intermediate=128,layers=1,heads=8,kv_heads=1,head_dim=16,vocab=300,tied=0"),
    NameOfShape);

// The rotation frequencies come from a root found by iteration.
TEST(OpenVinoIr, FrequenciesAreThoseOfThePowerFunction) {
  for (const int head_dim : {16, 96, 128}) {
    const ScratchFolder folder;
    const std::string shape = "hidden=128,intermediate=128,layers=1,heads=8,kv_heads=8,vocab=300,head_dim=";
    const auto source = RandomWeights(ParseShape(shape + std::to_string(head_dim)), 1);
    Quantize(*source, folder.path() / "model", {.format = OutputFormat::kOpenVino});
    const auto found = Constants(folder.path() / "model" / "openvino_model.xml").Vector("model.rotary_emb/inv_freq");
    ASSERT_EQ(found.size(), static_cast<std::size_t>(head_dim / 2));
    for (int i = 0; i < head_dim / 2; ++i) {
      const double expected = std::pow(1e6, -2.0 * i / head_dim);
      EXPECT_NEAR(found[i], expected, expected * 0x1p-24) << head_dim << ": " << i;
    }
  }
}

}  // namespace
}  // namespace suites::quantize
