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
      ChatOptions options;
      options.add_generation_prompt = c["add_generation_prompt"].get<bool>();
      options.more = c["kwargs"];
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
  EXPECT_EQ(ChatTemplate::Open(folder.path())->Render(std::vector<ChatMessage>{{"user", "a"}}),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  WriteFile(folder.path() / "tokenizer_config.json", R"({"chat_template":[{"name":"other","template":"x"}]})");
  EXPECT_THAT(ErrorOf(folder.path(), [&] { ChatTemplate::Open(folder.path()); }),
              HasSubstr("neither a text nor a list"));
}

// Conversations with reasoning, tools, their calls and answers, as transformers
// 5.24 rendered them; and the corners of Jinja.
TEST(ChatTemplateTest, RendersAsTransformersDoes) {
  const auto cases = nlohmann::ordered_json::parse(ReadFile(TestData() / "chat_templates/cases.json"));
  ASSERT_EQ(cases.size(), 2u);
  ASSERT_EQ(cases["thinking_and_tools.jinja"].size(), 168u);
  for (const auto& [file, list] : cases.items()) {
    const ChatTemplate chat(file, ReadFile(TestData() / "chat_templates" / file));
    for (const auto& c : list) {
      ChatOptions options;
      options.add_generation_prompt = c["add_generation_prompt"].get<bool>();
      options.tools = c["tools"];
      options.more = c["kwargs"];
      EXPECT_EQ(chat.Render(c["messages"], options), c["text"].get<std::string>()) << c;
    }
  }
}

TEST(ChatTemplateTest, ThinkingIsSwitchedOff) {
  const auto chat = ChatTemplate::Open(TestData() / "checkpoints/awq");
  const std::vector<ChatMessage> question = {{"user", "a"}};
  const std::string on = chat->Render(question);
  EXPECT_EQ(chat->Render(question, {.enable_thinking = true, .tools = {}}), on);
  EXPECT_EQ(chat->Render(question, {.enable_thinking = false, .tools = {}}), on + "<think>\n\n</think>\n\n");
}

TEST(ChatTemplateTest, GivesSpecialTokensToTheTemplate) {
  const ScratchFolder folder;
  WriteFile(folder.path() / "chat_template.jinja", "{{ bos_token is defined }} {{ eos_token }} {{ pad_token }}");
  WriteFile(folder.path() / "tokenizer_config.json",
            R"({"bos_token": null, "eos_token": "<e>", "pad_token": {"content": "<p>"}})");
  EXPECT_EQ(ChatTemplate::Open(folder.path())->Render(std::vector<ChatMessage>{}), "False <e> <p>");
}

TEST(ChatTemplateTest, RefusesInOneLine) {
  const auto error = [](const std::string& text) { return ErrorOf("f", [&] { ChatTemplate("f", text); }); };
  EXPECT_EQ(error("{{ messages }}"), "");  // the control
  EXPECT_THAT(error("a\n{% macro x() %}{% endmacro %}"), HasSubstr("line 2: the tag 'macro' is not read"));
  EXPECT_THAT(error(std::string((1 << 20) + 1, 'a')), HasSubstr("more than 1 MiB"));
  const ChatTemplate complains("f", "{{ raise_exception('only\\nusers') }}");
  try {
    complains.Render(std::vector<ChatMessage>{});
    FAIL() << "nothing was thrown";
  } catch (const std::invalid_argument& what) {
    EXPECT_STREQ(what.what(), "chat template: line 1: the template says: 'only\\x0ausers'");
  }
}

}  // namespace
}  // namespace suites
