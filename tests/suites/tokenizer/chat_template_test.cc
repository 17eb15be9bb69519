#include "suites/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "suites/tokenizer/tokenizer.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::ErrorOf;
using testing_support::ReadFile;
using testing_support::ReadJson;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

// Every case that transformers rendered, from a template in
// tokenizer_config.json (awq) and in chat_template.jinja (gptq_desc_act).
TEST(ChatTemplateTest, GivesTheTextsAndIdsOfTransformers) {
  const json reference = ReadJson(TestData() / "checkpoints/tokenizer_reference.json");
  const Tokenizer tokenizer = Tokenizer::Open(TestData() / "checkpoints/awq");
  ASSERT_EQ(reference["chat_template"].size(), 4u);
  for (const char* folder : {"awq", "gptq_desc_act"}) {
    const auto chat = ChatTemplate::Open(TestData() / "checkpoints" / folder);
    ASSERT_TRUE(chat.has_value());
    for (const json& c : reference["chat_template"]) {
      std::vector<ChatMessage> messages;
      for (const json& m : c["messages"])
        messages.push_back({m["role"].get<std::string>(), m["content"].get<std::string>()});
      const ChatOptions options{.add_generation_prompt = c["add_generation_prompt"].get<bool>(),
                                .enable_thinking = c["kwargs"].value("enable_thinking", true)};
      const std::string text = chat->Render(messages, options);
      EXPECT_EQ(text, c["text"].get<std::string>());
      EXPECT_EQ(tokenizer.Encode(text), c["ids"].get<std::vector<std::int64_t>>());
    }
  }
}

TEST(ChatTemplateTest, MayBeAbsent) {
  const ScratchFolder folder;
  EXPECT_FALSE(ChatTemplate::Open(folder.path()).has_value());
  WriteFile(folder.path() / "tokenizer_config.json", R"({"eos_token":"<|im_end|>"})");
  EXPECT_FALSE(ChatTemplate::Open(folder.path()).has_value());
}

TEST(ChatTemplateTest, IsChosenByName) {
  const ScratchFolder folder;
  const std::string text = ReadFile(TestData() / "checkpoints/gptq_desc_act/chat_template.jinja");
  const json config = {
      {"chat_template", {{{"name", "tool_use"}, {"template", "x"}}, {{"name", "default"}, {"template", text}}}}};
  WriteFile(folder.path() / "tokenizer_config.json", config.dump());
  EXPECT_EQ(ChatTemplate::Open(folder.path())->Render({{"user", "a"}}),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  WriteFile(folder.path() / "tokenizer_config.json", R"({"chat_template":[{"name":"other","template":"x"}]})");
  EXPECT_THAT(ErrorOf(folder.path(), [&] { ChatTemplate::Open(folder.path()); }),
              HasSubstr("neither a text nor a list"));
}

class EditedTemplateTest : public testing::Test {
 protected:
  std::string Replaced(const std::string& what, const std::string& by) const {
    std::string text = text_;
    const auto position = text.find(what);
    EXPECT_NE(position, std::string::npos) << what;
    return text.replace(position, what.size(), by);
  }
  static std::string Error(const std::string& text) {
    return ErrorOf("f", [&] { ChatTemplate("f", text); });
  }
  std::string text_ = ReadFile(TestData() / "checkpoints/gptq_desc_act/chat_template.jinja");
};

TEST_F(EditedTemplateTest, OtherKindsAreRefused) {
  EXPECT_EQ(Error(text_), "");  // the control
  EXPECT_THAT(Error(""), HasSubstr("no turn of"));
  EXPECT_THAT(Error("[INST] {{ content }} [/INST]"), HasSubstr("no turn of"));
  EXPECT_THAT(
      Error(Replaced("{%- elif messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0].content",
                     "{%- elif false %}\n    {{- '' + messages[0].content")),
      HasSubstr("no rule for a first system message"));
  EXPECT_THAT(Error(text_ + "{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>' }}"),
              HasSubstr("system message of its own"));
  EXPECT_THAT(Error(Replaced("if add_generation_prompt", "if false")), HasSubstr("no generation prompt"));
  EXPECT_THAT(Error(Replaced("{{- '<|im_start|>assistant\\n' }}", "{{- '<|assistant|>' }}")),
              HasSubstr("another generation prompt"));
}

TEST_F(EditedTemplateTest, TextsOfTheGenerationPromptComeFromTheTemplate) {
  const ChatTemplate thinking("f",
                              Replaced("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>\\n' }}"));
  EXPECT_EQ(thinking.Render({}), "<|im_start|>assistant\n<think>\n");
  const ChatTemplate without("f", Replaced("enable_thinking is false", "false"));
  EXPECT_EQ(without.Render({}), "<|im_start|>assistant\n");
  EXPECT_THROW(without.Render({}, {.enable_thinking = false}), std::invalid_argument);
}

TEST_F(EditedTemplateTest, RefusesConversationsThatItCannotRender) {
  const ChatTemplate chat("f", text_);
  EXPECT_NO_THROW(chat.Render({{"user", "a"}, {"assistant", "b"}, {"user", "c"}}));
  EXPECT_THROW(chat.Render({{"user", "a"}, {"assistant", "b"}}), std::invalid_argument);
  EXPECT_THROW(chat.Render({{"tool", "a"}}), std::invalid_argument);
  EXPECT_THROW(chat.Render({{"user", "<tool_response>1</tool_response>"}}), std::invalid_argument);
}

}  // namespace
}  // namespace suites
