#include "suites/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "suites/tokenizer/split_regex.h"
#include "suites/tokenizer/utf8.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::EditJson;
using testing_support::ReadJson;
using testing_support::ScratchFolder;
using testing_support::TestData;

using Ids = std::vector<std::int64_t>;

const Tokenizer& Reference() {
  static const Tokenizer tokenizer = Tokenizer::Open(TestData() / "checkpoints/awq");
  return tokenizer;
}

// Every case that Hugging Face tokenizers wrote down.
TEST(TokenizerTest, GivesTheIdsAndTextsOfHuggingFace) {
  const json reference = ReadJson(TestData() / "checkpoints/tokenizer_reference.json");
  ASSERT_GE(reference["cases"].size(), 35u);
  for (const json& c : reference["cases"]) {
    const auto text = c["text"].get<std::string>();
    const auto ids = c["ids"].get<Ids>();
    EXPECT_EQ(Reference().Encode(text), ids) << c["text"];
    EXPECT_EQ(Reference().Decode(ids), c["decoded"].get<std::string>()) << c["text"];
    EXPECT_EQ(Reference().Decode(ids, true), c["decoded_skip_special"].get<std::string>()) << c["text"];
  }
}

TEST(TokenizerTest, ReadsMergesInBothSpellings) {
  const ScratchFolder folder;
  std::filesystem::copy_file(TestData() / "checkpoints/awq/tokenizer.json", folder.path() / "tokenizer.json");
  EditJson(folder.path() / "tokenizer.json", [](json* tokenizer) {
    for (json& merge : (*tokenizer)["model"]["merges"]) {
      ASSERT_TRUE(merge.is_array());
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    }
  });
  const Tokenizer other = Tokenizer::Open(folder.path());
  const json reference = ReadJson(TestData() / "checkpoints/tokenizer_reference.json");
  ASSERT_GE(reference["cases"].size(), 35u);
  for (const json& c : reference["cases"]) {
    EXPECT_EQ(other.Encode(c["text"].get<std::string>()), c["ids"].get<Ids>()) << c["text"];
  }
}

// Ids that transformers 5.24 gives for the same files.
class TokenizerConfigTest : public testing::Test {
 protected:
  TokenizerConfigTest() {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy_file(TestData() / "checkpoints/awq" / name, folder_.path() / name);
    }
  }
  void Edit(const std::function<void(json*)>& edit) { EditJson(folder_.path() / "tokenizer_config.json", edit); }
  Ids Encode(const std::string& text) { return Tokenizer::Open(folder_.path()).Encode(text); }
  static json Token(const char* content, bool special) {
    return {{"content", content}, {"lstrip", false},      {"normalized", false},
            {"rstrip", false},    {"single_word", false}, {"special", special}};
  }
  ScratchFolder folder_;
};

TEST_F(TokenizerConfigTest, AddsTheTokensOfItsDecoderWhateverIdTheyName) {
  EXPECT_THAT(Encode("a <extra> b"), ElementsAre(64, 561, 68, 362, 341, 29, 298));
  Edit([](json* config) { (*config)["added_tokens_decoder"]["1020"] = Token("<extra>", true); });
  EXPECT_THAT(Encode("a <extra> b"), ElementsAre(64, 220, 1010, 298));
  EXPECT_EQ(Tokenizer::Open(folder_.path()).vocab_size(), 1011);
  EXPECT_EQ(Tokenizer::Open(folder_.path()).Decode({64, 1010}, /*skip_special_tokens=*/true), "a");
}

TEST_F(TokenizerConfigTest, ItsFlagsAreTheOnesThatCount) {
  EXPECT_THAT(Encode(" <think> z"), ElementsAre(220, 1008, 220, 89));
  Edit([](json* config) {
    for (const char* flag : {"lstrip", "rstrip"}) (*config)["added_tokens_decoder"]["1008"][flag] = true;
  });
  EXPECT_THAT(Encode(" <think> z"), ElementsAre(1008, 89));
}

TEST_F(TokenizerConfigTest, AddsSpecialTokensThatAreNotKnown) {
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, json>>{{"pad_token", "<extra>"},
                                                 {"pad_token", Token("<extra>", true)},
                                                 {"additional_special_tokens", {"<|im_start|>", "<extra>"}},
                                                 {"extra_special_tokens", {"<extra>"}},
                                                 {"extra_special_tokens", {{"image_token", "<extra>"}}}}) {
    Edit([&](json* config) { (*config)[key] = value; });
    EXPECT_THAT(Encode("a <extra> b"), ElementsAre(64, 220, 1010, 298)) << key << value;
    Edit([&](json* config) { (*config)[key] = nullptr; });
  }
  EXPECT_THAT(Encode("a <extra> b"), ElementsAre(64, 561, 68, 362, 341, 29, 298));  // the control
  Edit([](json* config) { config->erase("added_tokens_decoder"); });
  EXPECT_THAT(Encode("x <|im_start|> y"), ElementsAre(87, 220, 1004, 469));
  std::filesystem::remove(folder_.path() / "tokenizer_config.json");
  EXPECT_THAT(Encode("x <|im_start|> y"), ElementsAre(87, 220, 1004, 469));
}

TEST_F(TokenizerConfigTest, RefusesWhatItCannotRead) {
  const auto error = [&](const std::function<void(json*)>& edit) {
    std::filesystem::copy_file(TestData() / "checkpoints/awq/tokenizer_config.json",
                               folder_.path() / "tokenizer_config.json",
                               std::filesystem::copy_options::overwrite_existing);
    Edit(edit);
    return testing_support::ErrorOf(folder_.path() / "tokenizer_config.json", [&] { Tokenizer::Open(folder_.path()); });
  };
  EXPECT_EQ(error([](json*) {}), "");
  EXPECT_THAT(error([](json* c) { (*c)["added_tokens_decoder"] = json::array(); }), HasSubstr("is not an object"));
  EXPECT_THAT(error([](json* c) { (*c)["added_tokens_decoder"]["x1"] = Token("a", true); }),
              HasSubstr("'x1' is not a"));
  EXPECT_THAT(error([](json* c) { (*c)["added_tokens_decoder"]["1"] = "a"; }), HasSubstr("not an object"));
  EXPECT_THAT(error([](json* c) { (*c)["added_tokens_decoder"]["1"] = json::object(); }), HasSubstr("no content"));
  EXPECT_THAT(error([](json* c) { (*c)["add_prefix_space"] = true; }), HasSubstr("add_prefix_space is not built"));
  EXPECT_THAT(error([](json* c) { *c = json::array(); }), HasSubstr("not a JSON object"));
}

TEST(TokenizerTest, DecodesWhatItEncoded) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (int length = static_cast<int>(random() % 40); length > 0; --length) {
      // Hangul syllables, CJK and ASCII are in NFC already.
      const std::uint32_t kind = random() % 3;
      const std::uint32_t c = kind == 0   ? 0x20 + random() % 95
                              : kind == 1 ? 0xac00 + random() % 11172
                                          : 0x4e00 + random() % 20000;
      if (c < 0x80) {
        text += static_cast<char>(c);
      } else {
        text += static_cast<char>(0xe0 | c >> 12);
        text += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        text += static_cast<char>(0x80 | (c & 0x3f));
      }
    }
    EXPECT_EQ(Reference().Decode(Reference().Encode(text)), text);
  }
}

TEST(TokenizerTest, CutsOfACharacterBecomeReplacementCharacters) {
  const Ids ids = Reference().Encode("𠮷");
  ASSERT_GT(ids.size(), 1u);
  EXPECT_EQ(Reference().Decode({ids[0]}), "\xef\xbf\xbd");
  EXPECT_EQ(Reference().Decode(ids), "𠮷");
}

TEST(TokenizerTest, RefusesWhatIsNotUtf8AndUnknownIds) {
  EXPECT_NO_THROW(Reference().Encode("\xc3\xa9"));
  for (const char* text : {"\xc3", "\x80", "a\xff", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_THROW(Reference().Encode(text), std::invalid_argument);
  }
  EXPECT_EQ(Reference().vocab_size(), 1010);
  EXPECT_NO_THROW(Reference().Decode({0, 1009}));
  EXPECT_THROW(Reference().Decode({1010}), std::invalid_argument);
  EXPECT_THROW(Reference().Decode({-1}), std::invalid_argument);
}

TEST(TokenizerTest, KeepsZeroBytes) {
  const std::string text("a\0b", 3);
  EXPECT_EQ(Reference().Decode(Reference().Encode(text)), text);
}

// A tokenizer of single letters with the merges and added tokens of a test.
class SmallTokenizerTest : public testing::Test {
 protected:
  SmallTokenizerTest() {
    json_ = ReadJson(TestData() / "checkpoints/awq/tokenizer.json");
    json_["model"]["vocab"] = json::object();
    json_["model"]["merges"] = json::array();
    json_["added_tokens"] = json::array();
    for (const char* token : {"a", "b", "c", "Ġ", "Ã", "©"}) Token(token);
  }
  void Token(const std::string& text) { json_["model"]["vocab"][text] = next_id_++; }
  void Merge(const std::string& left, const std::string& right) {
    if (!json_["model"]["vocab"].contains(left + right)) Token(left + right);
    json_["model"]["merges"].push_back({left, right});
  }
  void Added(const std::string& content, json flags) {
    flags["content"] = content;
    flags["id"] = 100 + json_["added_tokens"].size();
    json_["added_tokens"].push_back(flags);
  }
  Ids Encode(const std::string& text) {
    testing_support::WriteFile(folder_.path() / "tokenizer.json", json_.dump());
    return Tokenizer::Open(folder_.path()).Encode(text);
  }
  json json_;
  int next_id_ = 0;
  ScratchFolder folder_;
};

TEST_F(SmallTokenizerTest, MergesByRankThenFromTheLeft) {
  Merge("b", "c");  // 6
  Merge("a", "b");  // 7
  EXPECT_THAT(Encode("abc"), ElementsAre(0, 6));
  EXPECT_THAT(Encode("abab"), ElementsAre(7, 7));
  Merge("a", "a");  // 8
  EXPECT_THAT(Encode("aaa"), ElementsAre(8, 0));
}

TEST_F(SmallTokenizerTest, WholeWordsComeFirstUnderIgnoreMerges) {
  Merge("a", "b");  // 6
  Token("abc");     // 7, no merge leads to it
  EXPECT_THAT(Encode("abc"), ElementsAre(6, 2));
  json_["model"]["ignore_merges"] = true;
  EXPECT_THAT(Encode("abc"), ElementsAre(7));
}

TEST_F(SmallTokenizerTest, LeavesOutBytesThatTheVocabularyLacks) { EXPECT_THAT(Encode("axb"), ElementsAre(0, 1)); }

TEST_F(SmallTokenizerTest, NormalizesToNfcOnlyWhereAsked) {
  EXPECT_THAT(Encode("e\xcc\x81"), ElementsAre(4, 5));  // composed to é = c3 a9
  json_["normalizer"] = nullptr;
  EXPECT_THAT(Encode("e\xcc\x81"), ElementsAre());
}

TEST_F(SmallTokenizerTest, TheLongestAddedTokenWins) {
  Added("<x", {{"normalized", false}});
  Added("<x>", {{"normalized", false}});
  EXPECT_THAT(Encode("a<x>b<x"), ElementsAre(0, 101, 1, 100));
}

TEST_F(SmallTokenizerTest, StrippingTokensTakeTheSpacesBesideThem) {
  Added("<l>", {{"lstrip", true}});
  Added("<r>", {{"rstrip", true}});
  Added("<n>", json::object());
  EXPECT_THAT(Encode("a <l> b"), ElementsAre(0, 100, 3, 1));
  EXPECT_THAT(Encode("a <r>\xe3\x80\x80 b"), ElementsAre(0, 3, 101, 1));  // U+3000 is white space
  EXPECT_THAT(Encode("a <n> b"), ElementsAre(0, 3, 102, 3, 1));
}

TEST_F(SmallTokenizerTest, SingleWordsStandAlone) {
  Added("ab", {{"single_word", true}, {"normalized", false}});
  EXPECT_THAT(Encode("ab"), ElementsAre(100));
  EXPECT_THAT(Encode("abc"), ElementsAre(0, 1, 2));
  EXPECT_THAT(Encode("c ab a"), ElementsAre(2, 3, 100, 3, 0));
  EXPECT_THAT(Encode("\xe2\x80\x8d"
                     "ab"),
              ElementsAre(0, 1));  // U+200D counts as part of a word
  EXPECT_THAT(Encode("_ab"), ElementsAre(0, 1));
  EXPECT_THAT(Encode("-ab"), ElementsAre(100));
}

// Texts that tokenizers 0.23 gave.
TEST_F(SmallTokenizerTest, WhiteSpaceIsTakenOnce) {
  Added("ab", {{"rstrip", true}, {"normalized", false}});
  Added("\n", {{"lstrip", true}, {"normalized", false}});
  EXPECT_THAT(Encode("b\n"), ElementsAre(1, 101));  // the control
  EXPECT_THAT(Encode("ab\n"), ElementsAre(100));
  EXPECT_THAT(Encode("ab \nb"), ElementsAre(100, 1));
  json_["added_tokens"][1]["lstrip"] = false;
  EXPECT_THAT(Encode("ab\n"), ElementsAre(100, 101));
}

TEST_F(SmallTokenizerTest, NormalizedTokensAreFoundInTheNormalizedText) {
  Added("\xc3\xa9", {{"normalized", true}});
  EXPECT_THAT(Encode("e\xcc\x81"), ElementsAre(100));
  json_["added_tokens"][0]["normalized"] = false;
  EXPECT_THAT(Encode("e\xcc\x81"), ElementsAre(4, 5));
}

TEST_F(SmallTokenizerTest, TextIsNormalizedByItselfBehindAToken) {
  Added("e", {{"normalized", false}});
  // The accent must not join the token before it.
  EXPECT_THAT(Encode("e\xcc\x81"), ElementsAre(100));
}

constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> Pieces(std::string_view pattern, std::string_view text) {
  std::vector<std::string> pieces;
  SplitRegex("test", pattern).Split(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

// Pieces that tokenizers 0.22 gave, where engines differ.
TEST(SplitRegexTest, CutsAsHuggingFaceDoes) {
  const auto cut = [](std::string_view text) { return Pieces(kQwen2Pattern, text); };
  // U+180E is no white space, although PCRE2's \s holds it; U+0085, U+1680 and U+2028 are.
  EXPECT_THAT(cut("a\xe1\xa0\x8e!!"), ElementsAre("a", "\xe1\xa0\x8e!!"));
  EXPECT_THAT(cut(" \xe1\xa0\x8e b"), ElementsAre(" \xe1\xa0\x8e", " b"));
  EXPECT_THAT(cut("x  \xe1\x9a\x80 y"), ElementsAre("x", "  \xe1\x9a\x80", " y"));
  EXPECT_THAT(cut("\xc2\x85\xc2\x85"
                  "a"),
              ElementsAre("\xc2\x85",
                          "\xc2\x85"
                          "a"));
  EXPECT_THAT(cut("\xe2\x80\xa8\n a"), ElementsAre("\xe2\x80\xa8\n", " a"));
  // U+017F folds to s.
  EXPECT_THAT(cut("it'\xc5\xbf"
                  "a"),
              ElementsAre("it", "'\xc5\xbf", "a"));
  EXPECT_THAT(cut("it'Sa 'REb"), ElementsAre("it", "'S", "a", " '", "REb"));
  EXPECT_THAT(cut(""), ElementsAre());
}

TEST(SplitRegexTest, GivesGapsAndPassesEmptyMatches) {
  EXPECT_THAT(Pieces("b+", "abbcb"), ElementsAre("a", "bb", "c", "b"));
  EXPECT_THAT(Pieces("b*",
                     "\xc3\xa9"
                     "bc"),
              ElementsAre("\xc3\xa9", "b", "c"));
}

TEST(SplitRegexTest, RefusesOtherEscapesAndBadPatterns) {
  EXPECT_NO_THROW(SplitRegex("test", R"([^\s\p{L}\.\-]+|\d)"));
  for (const char* pattern :
       {R"(\w+)", R"(\bword)", R"(a\Kb)", R"(\h)", R"((a)\1)", R"(\x{61})", "a\\", "(", "[z-a]", R"(\p{Nonsense})"}) {
    EXPECT_THROW(SplitRegex("test", pattern), CheckpointError) << pattern;
  }
}

TEST(SplitRegexTest, ACatastrophicPatternEndsInAnError) {
  EXPECT_THROW(Pieces("(a+)+$", std::string(64, 'a') + "b"), std::runtime_error);
  EXPECT_THAT(Pieces("(a+)+$", "aa"), ElementsAre("aa"));
}

// Words of a megabyte, of letters and of blanks: a merge loop or a regex that
// looks at everything again for each step would take hours.
TEST(TokenizerTest, LongWordsEndInTime) {
  const std::size_t size = 1 << 20;
  std::mt19937 random(5);
  std::string letters;
  for (std::size_t i = 0; i < size; ++i) letters += static_cast<char>('a' + random() % 26);
  EXPECT_EQ(Reference().Decode(Reference().Encode(letters)), letters);
  const std::string blanks = std::string(size, ' ') + "x";
  EXPECT_EQ(Reference().Decode(Reference().Encode(blanks)), blanks);
  std::string marks = "a";
  for (std::size_t i = 0; i < size / 4; ++i) marks += "\xcc\x81\xcc\xa3";  // 230 before 220: to be ordered
  const std::string ordered = Reference().Decode(Reference().Encode(marks));
  EXPECT_EQ(ordered.size(), marks.size());
  EXPECT_TRUE(ordered.starts_with("\xe1\xba\xa1\xcc\xa3"));  // U+1EA1, then the other U+0323
  EXPECT_TRUE(ordered.ends_with("\xcc\x81"));
}

TEST(Utf8Test, ReplacesMaximalSubparts) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(ReplaceInvalidUtf8("a\xc3\xa9z"), "a\xc3\xa9z");
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\x98"), r);  // a cut character: one
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\x98"
                               "a"),
            r + "a");
  EXPECT_EQ(ReplaceInvalidUtf8("\xe2\x82\xe2\x82\xac"), r + "\xe2\x82\xac");
  EXPECT_EQ(ReplaceInvalidUtf8("\xed\xa0\x80"), r + r + r);          // a surrogate: three
  EXPECT_EQ(ReplaceInvalidUtf8("\xc0\xaf"), r + r);                  // overlong
  EXPECT_EQ(ReplaceInvalidUtf8("\xf4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(ReplaceInvalidUtf8("\xff\x80"), r + r);
}

// Cases of Unicode's NormalizationTest.txt: composition, exclusion, order of
// marks, Hangul.
TEST(Utf8Test, NormalizesToNfc) {
  EXPECT_EQ(ToNfc("\xc3\xa9"), "\xc3\xa9");
  EXPECT_EQ(ToNfc("D\xcc\x87\xcc\xa3"), "\xe1\xb8\x8c\xcc\x87");             // 1E0A 0323 -> 1E0C 0307
  EXPECT_EQ(ToNfc("\xe2\x84\xab"), "\xc3\x85");                              // the Angstrom sign
  EXPECT_EQ(ToNfc("\xe0\xa5\x98"), "\xe0\xa4\x95\xe0\xa4\xbc");              // U+0958 is excluded
  EXPECT_EQ(ToNfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"), "\xea\xb0\x81");  // Hangul L V T
  EXPECT_EQ(ToNfc("a\xd6\xae\xcc\x80\xcc\x95"
                  "b"),
            "\xc3\xa0\xd6\xae\xcc\x95"
            "b");  // 05AE, 0300, 0315
}

// Texts that tokenizers 0.23 gave: marks that came after Unicode 9 are no marks.
TEST(Utf8Test, NormalizesAsUnicode9Does) {
  const std::string acute = "\xcc\x81";          // U+0301, class 230
  const std::string later = "\xf0\x96\xbf\xb0";  // U+16FF0 of Unicode 13, class 6
  EXPECT_EQ(ToNfc("a" + acute + later), "\xc3\xa1" + later);
  EXPECT_EQ(ToNfc("a" + later + acute), "a" + later + acute);
  EXPECT_EQ(ToNfc("b" + acute + later), "b" + acute + later);
  const std::string known = "\xcc\xa3";  // U+0323, class 220: the control
  EXPECT_EQ(ToNfc("b" + acute + known), "\xe1\xb8\x85" + acute);
  const std::string parts = "\xf0\x91\xa4\xb5\xf0\x91\xa4\xb0";  // U+11935 U+11930 of Unicode 13
  EXPECT_EQ(ToNfc(parts), parts);
  EXPECT_EQ(ToNfc("\xf0\x91\xa4\xb8"), "\xf0\x91\xa4\xb8");  // their composite
}

TEST(Utf8Test, ReadsTheByteAlphabet) {
  EXPECT_EQ(BytesOfToken("Ġthe"), " the");
  EXPECT_EQ(BytesOfToken("Ċ"), "\n");
  EXPECT_EQ(BytesOfToken("Ń"), "\xad");
  EXPECT_EQ(BytesOfToken("ÿ"), "\xff");
  EXPECT_EQ(BytesOfToken("a b"), std::nullopt);
  EXPECT_EQ(BytesOfToken("ń"), std::nullopt);  // U+0144, the first behind the alphabet
  EXPECT_EQ(BytesOfToken("日"), std::nullopt);
}

}  // namespace
}  // namespace suites
