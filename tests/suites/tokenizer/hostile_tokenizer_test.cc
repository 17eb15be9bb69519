// Files that are no tokenizer.json of the kind that is read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "suites/tokenizer/tokenizer.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::ErrorOf;
using testing_support::ReadJson;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

struct BadTokenizer {
  const char* name;
  std::function<void(json&)> edit;
  const char* message;
};

class HostileTokenizerTest : public testing::TestWithParam<BadTokenizer> {};

TEST_P(HostileTokenizerTest, IsRefusedInOneLine) {
  const ScratchFolder folder;
  const auto file = folder.path() / "tokenizer.json";
  json tokenizer = ReadJson(TestData() / "checkpoints/awq/tokenizer.json");
  WriteFile(file, tokenizer.dump());
  EXPECT_EQ(ErrorOf(file, [&] { Tokenizer::Open(folder.path()); }), "");  // the control
  GetParam().edit(tokenizer);
  WriteFile(file, tokenizer.dump());
  EXPECT_THAT(ErrorOf(file, [&] { Tokenizer::Open(folder.path()); }), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Files, HostileTokenizerTest,
    testing::Values(
        BadTokenizer{"NoModel", [](json& t) { t.erase("model"); }, "model: is missing"},
        BadTokenizer{"WordPiece", [](json& t) { t["model"]["type"] = "WordPiece"; }, "type \"WordPiece\" is not read"},
        BadTokenizer{"Dropout", [](json& t) { t["model"]["dropout"] = 0.1; }, "dropout is not read"},
        BadTokenizer{"WordSuffix", [](json& t) { t["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
        BadTokenizer{"NoVocabulary", [](json& t) { t["model"]["vocab"] = json::object(); }, "no vocab"},
        BadTokenizer{"NegativeId", [](json& t) { t["model"]["vocab"]["a"] = -1; }, "token 'a' has no id"},
        BadTokenizer{"HugeId", [](json& t) { t["model"]["vocab"]["a"] = 1LL << 40; }, "token 'a' has no id"},
        BadTokenizer{"NoMerges", [](json& t) { t["model"].erase("merges"); }, "no merges"},
        BadTokenizer{"MergeOfThree",
                     [](json& t) {
                       t["model"]["merges"][0] = {"a", "b", "c"};
                     },
                     "is neither"},
        BadTokenizer{"MergeOfThreeWords", [](json& t) { t["model"]["merges"][0] = "a b c"; }, "is neither"},
        BadTokenizer{"MergeOfUnknownTokens", [](json& t) { t["model"]["merges"][0] = "qq qq"; }, "which vocab lacks"},
        BadTokenizer{"ByteFallback",
                     [](json& t) {
                       t["model"]["vocab"].erase("!");
                       t["model"]["byte_fallback"] = true;
                     },
                     "byte_fallback with a vocabulary of 255"},
        BadTokenizer{"OtherNormalizer",
                     [](json& t) {
                       t["normalizer"] = {{"type", "NFKC"}};
                     },
                     "only NFC"},
        BadTokenizer{
            "OneOfTwoNormalizers",
            [](json& t) {
              t["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
            },
            "Lowercase"},
        BadTokenizer{"Metaspace",
                     [](json& t) {
                       t["pre_tokenizer"] = {{"type", "Metaspace"}};
                     },
                     "is ['Metaspace']"},
        BadTokenizer{"NoPreTokenizer", [](json& t) { t["pre_tokenizer"] = nullptr; }, "is []"},
        BadTokenizer{"SplitRemoves", [](json& t) { t["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; },
                     "not Isolated"},
        BadTokenizer{"SplitByText",
                     [](json& t) {
                       t["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", " "}};
                     },
                     "without a Regex"},
        BadTokenizer{"BadRegex",
                     [](json& t) {
                       t["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", "(a"}};
                     },
                     "PCRE2 does not take"},
        BadTokenizer{"PrefixSpace", [](json& t) { t["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; },
                     "add_prefix_space"},
        BadTokenizer{"SecondRegex", [](json& t) { t["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = true; },
                     "use_regex"},
        BadTokenizer{"PostProcessorThatAddsTokens",
                     [](json& t) {
                       t["post_processor"] = {{"type", "TemplateProcessing"}};
                     },
                     "'TemplateProcessing'"},
        BadTokenizer{"OtherDecoder",
                     [](json& t) {
                       t["decoder"] = {{"type", "WordPiece"}};
                     },
                     "decoder is not ByteLevel"},
        BadTokenizer{"AddedTokenWithoutId", [](json& t) { t["added_tokens"][0].erase("id"); }, "no id"},
        BadTokenizer{"AddedTokenWithoutContent", [](json& t) { t["added_tokens"][0]["content"] = 5; }, "no content"},
        BadTokenizer{"AddedTokenWithTwoIds", [](json& t) { t["added_tokens"][0]["content"] = "a"; },
                     "in the vocabulary it has"},
        BadTokenizer{"AddedTokenWithOddFlag", [](json& t) { t["added_tokens"][0]["lstrip"] = "yes"; },
                     "lstrip is not true or false"},
        BadTokenizer{"AddedTokensNotAList", [](json& t) { t["added_tokens"] = 5; }, "is not a list"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(HostileTokenizerFileTest, IsRefusedInOneLine) {
  const ScratchFolder folder;
  const auto file = folder.path() / "tokenizer.json";
  EXPECT_THAT(ErrorOf(folder.path(), [&] { Tokenizer::Open(folder.path()); }), HasSubstr("tokenizer.json is missing"));
  for (const std::string& text : {std::string(), std::string("{"), std::string("[]"), std::string("5"),
                                  std::string(100'000, '['), std::string("{\"model\":{},\"model\":{}}")}) {
    WriteFile(file, text);
    EXPECT_NE(ErrorOf(file, [&] { Tokenizer::Open(folder.path()); }), "") << text.substr(0, 30);
  }
}

}  // namespace
}  // namespace suites
