#include "suites/benchmarks/openvino_matmul.h"

#include <map>
#include <openvino/op/constant.hpp>
#include <openvino/op/convert.hpp>
#include <openvino/op/matmul.hpp>
#include <openvino/op/multiply.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/reshape.hpp>
#include <openvino/op/result.hpp>
#include <openvino/op/subtract.hpp>
#include <openvino/openvino.hpp>
#include <random>
#include <vector>

namespace quant_suites {
namespace {

constexpr std::size_t kGroup = 128;

std::shared_ptr<ov::Node> RandomCodes(const ov::Shape& shape, std::mt19937& random) {
  std::vector<std::uint8_t> bytes(ov::shape_size(shape) / 2);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  const auto codes = std::make_shared<ov::op::v0::Constant>(ov::element::u4, shape, bytes.data());
  return std::make_shared<ov::op::v0::Convert>(codes, ov::element::f16);
}

// The subgraph that the runtime knows as compressed weights, as nncf writes it:
// ((u4 -> f16) - (u4 -> f16)) * f16, reshaped to [n, k], -> f32.
std::shared_ptr<ov::Model> BuildModel(std::size_t k, std::size_t n) {
  std::mt19937 random(1);
  const auto codes = RandomCodes({n, k / kGroup, kGroup}, random);
  const auto zeros = RandomCodes({n, k / kGroup, 1}, random);
  const auto scales = std::make_shared<ov::op::v0::Constant>(ov::element::f16, ov::Shape{n, k / kGroup, 1},
                                                             std::vector<float>(n * k / kGroup, 0.013F));
  const auto scaled =
      std::make_shared<ov::op::v1::Multiply>(std::make_shared<ov::op::v1::Subtract>(codes, zeros), scales);
  const auto shape = ov::op::v0::Constant::create(ov::element::i64, {2}, {n, k});
  const auto weights = std::make_shared<ov::op::v0::Convert>(
      std::make_shared<ov::op::v1::Reshape>(scaled, shape, /*special_zero=*/false), ov::element::f32);
  const auto x = std::make_shared<ov::op::v0::Parameter>(ov::element::f32, ov::PartialShape{-1, static_cast<int>(k)});
  const auto product = std::make_shared<ov::op::v0::MatMul>(x, weights, /*transpose_a=*/false, /*transpose_b=*/true);
  return std::make_shared<ov::Model>(ov::ResultVector{std::make_shared<ov::op::v0::Result>(product)},
                                     ov::ParameterVector{x});
}

class Compiled : public OpenVinoMatmul {
 public:
  Compiled(std::int64_t k, std::int64_t n, int threads)
      : k_(static_cast<std::size_t>(k)),
        model_(core_.compile_model(BuildModel(k_, static_cast<std::size_t>(n)), "CPU",
                                   ov::inference_num_threads(threads),
                                   ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY))),
        request_(model_.create_infer_request()) {}

  void Run(std::int64_t m) override {
    auto [at, added] = inputs_.try_emplace(m);
    if (added) {
      at->second = ov::Tensor(ov::element::f32, {static_cast<std::size_t>(m), k_});
      std::mt19937 random(2);
      std::uniform_real_distribution<float> value(-2, 2);
      for (std::size_t i = 0; i < at->second.get_size(); ++i) at->second.data<float>()[i] = value(random);
    }
    request_.set_input_tensor(at->second);
    request_.infer();
  }

 private:
  std::size_t k_;
  ov::Core core_;
  ov::CompiledModel model_;
  ov::InferRequest request_;
  std::map<std::int64_t, ov::Tensor> inputs_;
};

}  // namespace

std::unique_ptr<OpenVinoMatmul> MakeOpenVinoMatmul(std::int64_t k, std::int64_t n, int threads) {
  return std::make_unique<Compiled>(k, n, threads);
}

}  // namespace quant_suites
