// The tokenizer that optimum-intel exports as IR, in openvino-tokenizers, against this
// project's on the tokenizer.json beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

#include "suites/tokenizer/tokenizer.h"

namespace suites {
namespace {

namespace fs = std::filesystem;

class OpenVinoTokenizer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const fs::path library = OPENVINO_TOKENIZERS_LIBRARY;
    if (library.empty()) GTEST_SKIP() << "openvino-tokenizers is not installed";
    core_.add_extension(library.string());
    folder_ = fs::path(TEST_DATA_DIR) / "checkpoints" / GetParam();
    tokenizer_ = core_.compile_model((folder_ / "openvino_tokenizer.xml").string(), "CPU");
    detokenizer_ = core_.compile_model((folder_ / "openvino_detokenizer.xml").string(), "CPU");
  }
  std::vector<std::int64_t> Encode(const std::string& text) {
    ov::InferRequest request = tokenizer_.create_infer_request();
    ov::Tensor texts(ov::element::string, {1});
    texts.data<std::string>()[0] = text;
    request.set_input_tensor(texts);
    request.infer();
    const ov::Tensor ids = request.get_tensor("input_ids");
    return {ids.data<std::int64_t>(), ids.data<std::int64_t>() + ids.get_size()};
  }
  std::string Decode(const std::vector<std::int64_t>& ids) {
    ov::InferRequest request = detokenizer_.create_infer_request();
    ov::Tensor tensor(ov::element::i64, {1, ids.size()});
    std::copy(ids.begin(), ids.end(), tensor.data<std::int64_t>());
    request.set_input_tensor(tensor);
    request.infer();
    return request.get_output_tensor().data<std::string>()[0];
  }
  ov::Core core_;
  fs::path folder_;
  ov::CompiledModel tokenizer_, detokenizer_;
};
INSTANTIATE_TEST_SUITE_P(Checkpoints, OpenVinoTokenizer,
                         testing::Values("openvino_2025_asymmetric", "openvino_2025_symmetric",
                                         "openvino_2026_symmetric", "openvino_2026_columns"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(OpenVinoTokenizer, GivesTheIdsAndTextsOfOurs) {
  const Tokenizer ours = Tokenizer::Open(folder_);
  std::ifstream file(fs::path(TEST_DATA_DIR) / "checkpoints" / "tokenizer_reference.json");
  int compared = 0;
  const nlohmann::json reference = nlohmann::json::parse(file);
  for (const auto& entry : reference.at("cases")) {
    const std::string text = entry.at("text");
    if (text.empty()) continue;
    SCOPED_TRACE(text);
    ++compared;
    const std::vector<std::int64_t> ids = Encode(text);
    EXPECT_EQ(ids, ours.Encode(text));
    EXPECT_EQ(Decode(ids), ours.Decode(ids, /*skip_special_tokens=*/true));
  }
  EXPECT_GT(compared, 20);
}

}  // namespace
}  // namespace suites
