// The chat template of a checkpoint.
#ifndef SUITES_TOKENIZER_CHAT_TEMPLATE_H_
#define SUITES_TOKENIZER_CHAT_TEMPLATE_H_

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace suites::jinja {
class Template;
}  // namespace suites::jinja

namespace suites {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

struct ChatOptions {
  bool add_generation_prompt = true;
  // Given to the template where it is set. False adds the empty thinking block
  // that keeps Qwen3 from thinking aloud.
  std::optional<bool> enable_thinking;
  nlohmann::ordered_json tools;                                    // a list of functions, null: none
  nlohmann::ordered_json more = nlohmann::ordered_json::object();  // other variables of the template
};

// A chat template, rendered as transformers' apply_chat_template() does. Jinja is
// read as far as jinja_parser.h says; a template outside of that is refused.
class ChatTemplate {
 public:
  // FOLDER/chat_template.jinja, else "chat_template" of FOLDER/tokenizer_config.json;
  // nothing where there is neither. Throws CheckpointError where the template is
  // not of the kind above.
  static std::optional<ChatTemplate> Open(const std::filesystem::path& folder);

  // `file` names the template in errors. `special_tokens`: "eos_token" and its
  // like, as variables. Throws CheckpointError.
  ChatTemplate(const std::string& file, std::string_view text,
               nlohmann::ordered_json special_tokens = nlohmann::ordered_json::object());

  // Text for Tokenizer::Encode(). `messages`: a list of objects with "role",
  // "content", "reasoning_content", "tool_calls" and what else the template
  // takes. Throws std::invalid_argument, one line: a message that the template
  // cannot take, or its own complaint.
  std::string Render(const nlohmann::ordered_json& messages, const ChatOptions& options = {}) const;
  std::string Render(const std::vector<ChatMessage>& messages, const ChatOptions& options = {}) const;

 private:
  std::shared_ptr<const jinja::Template> template_;
  nlohmann::ordered_json special_tokens_;
};

}  // namespace suites

#endif  // SUITES_TOKENIZER_CHAT_TEMPLATE_H_
