// The chat template of a Qwen3 checkpoint, rendered for plain conversations.
#ifndef SUITES_TOKENIZER_CHAT_TEMPLATE_H_
#define SUITES_TOKENIZER_CHAT_TEMPLATE_H_

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace suites {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

struct ChatOptions {
  bool add_generation_prompt = true;
  // False adds the empty thinking block that keeps Qwen3 from thinking aloud.
  bool enable_thinking = true;
};

// What transformers' apply_chat_template() gives for the ChatML templates of
// Qwen3 and its kin, without tools. This is no Jinja interpreter: the template's
// text is checked to hold the rules that are rendered here, and the texts of the
// generation prompt are taken from it; any other template is refused.
class ChatTemplate {
 public:
  // FOLDER/chat_template.jinja, else "chat_template" of FOLDER/tokenizer_config.json;
  // nothing where there is neither. Throws CheckpointError where the template is
  // not of the kind above.
  static std::optional<ChatTemplate> Open(const std::filesystem::path& folder);

  // `file` names the template in errors. Throws CheckpointError.
  ChatTemplate(const std::string& file, std::string_view text);

  // Text for Tokenizer::Encode(). Reasoning before "</think>" in assistant turns
  // is dropped, as the template does for turns before the last question. Throws
  // std::invalid_argument: another role, an assistant turn after the last
  // question, a tool's response, enable_thinking = false where the template
  // knows no such switch.
  std::string Render(const std::vector<ChatMessage>& messages, const ChatOptions& options = {}) const;

 private:
  std::string generation_prompt_;  // "<|im_start|>assistant\n"
  std::string no_thinking_;        // "<think>\n\n</think>\n\n"; "" where there is no switch
  bool drops_reasoning_ = false;
};

}  // namespace suites

#endif  // SUITES_TOKENIZER_CHAT_TEMPLATE_H_
