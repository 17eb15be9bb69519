#include "suites/int4/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "suites/tokenizer/chat_template.h"
#include "suites/tokenizer/tokenizer.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::ReadFile;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

using Ids = std::vector<std::int64_t>;

class PromptTest : public testing::Test {
 protected:
  Ids Prompt() const { return BuildPrompt(options_, model_, default_prompt_); }
  Ids Encoded(const std::string& text) const { return Tokenizer::Open(model_.folder).Encode(text); }
  static Ids Cut(Ids ids, std::size_t size) {
    ids.resize(std::min(ids.size(), size));
    return ids;
  }

  SuiteOptions options_;
  LocatedModel model_{.folder = TestData() / "checkpoints/awq", .source = "--model-dir", .name = "m"};
  std::filesystem::path default_prompt_ = SUITES_SOURCE_DIR "/prompts/default_prompt.txt";
  ScratchFolder scratch_;
};

TEST_F(PromptTest, IsTextThroughTheModelsOwnTokenizerAndTemplate) {
  const std::string text = ReadFile(default_prompt_);
  const std::string chat = ChatTemplate::Open(model_.folder)->Render(std::vector<ChatMessage>{{"user", text}});
  ASSERT_GT(Encoded(chat).size(), 2048u);
  EXPECT_EQ(Prompt(), Cut(Encoded(chat), 2048));
  options_.prompt_length = 100;
  EXPECT_EQ(Prompt(), Cut(Encoded(chat), 100));
}

TEST_F(PromptTest, IsPlainAndShorterForTheEmbeddedModel) {
  model_.source = "embedded";
  EXPECT_EQ(Prompt(), Cut(Encoded(ReadFile(default_prompt_)), 256));
}

TEST_F(PromptTest, OfTheUserIsTakenAsItIs) {
  options_.prompt = "It's <|im_start|>";
  EXPECT_EQ(Prompt(), Encoded("It's <|im_start|>"));
  options_.prompt.reset();
  options_.prompt_file = scratch_.path() / "prompt.txt";
  WriteFile(*options_.prompt_file, "from a file\n");
  EXPECT_EQ(Prompt(), Encoded("from a file\n"));
  options_.prompt_file.reset();
  options_.prompt_ids_file = scratch_.path() / "ids.json";
  WriteFile(*options_.prompt_ids_file, "[5, 6, 7]");
  EXPECT_THAT(Prompt(), ElementsAre(5, 6, 7));
  options_.prompt_length = 2;
  EXPECT_THAT(Prompt(), ElementsAre(5, 6));
}

TEST_F(PromptTest, AModelWithoutATemplateReadsThePlainText) {
  std::filesystem::copy(model_.folder / "tokenizer.json", scratch_.path());
  model_.folder = scratch_.path();
  EXPECT_EQ(Prompt(), Cut(Encoded(ReadFile(default_prompt_)), 2048));
}

TEST_F(PromptTest, ATokenizerThatDoesNotFitTheEmbeddingIsNamed) {
  for (const char* file : {"tokenizer.json", "config.json"}) {
    std::filesystem::copy(model_.folder / file, scratch_.path());
  }
  model_.folder = scratch_.path();
  options_.prompt = "a";
  EXPECT_EQ(Prompt(), Encoded("a")) << "control";
  std::string config = ReadFile(scratch_.path() / "config.json");
  const std::size_t at = config.find("\"vocab_size\": 1024");
  ASSERT_NE(at, std::string::npos);
  WriteFile(scratch_.path() / "config.json", config.replace(at, 18, "\"vocab_size\": 1009"));
  try {
    Prompt();
    FAIL() << "nothing was thrown";
  } catch (const VariantError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("tokenizer.json: does not fit the model"),
                                             HasSubstr("ids go up to 1009, the embedding has 1009 rows")));
  }
}

TEST_F(PromptTest, ATemplateThatIsNotReadIsNamed) {
  std::filesystem::copy(model_.folder / "tokenizer.json", scratch_.path());
  WriteFile(scratch_.path() / "chat_template.jinja", "{% include 'x' %}");
  model_.folder = scratch_.path();
  try {
    Prompt();
    FAIL() << "nothing was thrown";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), HasSubstr("the tag 'include' is not read"));
  }
  options_.prompt = "a";  // needs no template
  EXPECT_EQ(Prompt(), Encoded("a"));
}

}  // namespace
}  // namespace suites
