#include "suites/tokenizer/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

constexpr std::size_t kTemplateLimit = std::size_t{1} << 20;

// Without the white space and with one kind of quotes: what the authors of
// fine-tuned models change without changing a rule.
std::string Canonical(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
    out += c == '"' ? '\'' : c;
  }
  return out;
}

// The first quoted literal of `text`, its \n turned into line feeds.
std::optional<std::string> FirstLiteral(std::string_view text) {
  const auto begin = text.find('\'');
  const auto end = begin == std::string_view::npos ? begin : text.find('\'', begin + 1);
  if (end == std::string_view::npos) return std::nullopt;
  std::string literal(text.substr(begin + 1, end - begin - 1));
  for (auto i = literal.find("\\n"); i != std::string::npos; i = literal.find("\\n", i + 1))
    literal.replace(i, 2, "\n");
  return literal;
}

std::string TemplateOf(const std::string& file, const nlohmann::json& config) {
  const auto text = config.find("chat_template");
  if (text == config.end() || text->is_null()) return "";
  if (text->is_string()) return text->get<std::string>();
  // Several by name: [{"name": "default", "template": ...}].
  if (text->is_array()) {
    for (const auto& entry : *text) {
      if (entry.is_object() && entry.value("name", nlohmann::json()) == "default" && entry.contains("template") &&
          entry["template"].is_string()) {
        return entry["template"].get<std::string>();
      }
    }
  }
  throw CheckpointError(file + ": chat_template is neither a text nor a list with one named 'default'");
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::Open(const std::filesystem::path& folder) {
  std::error_code error;
  if (const auto jinja = folder / "chat_template.jinja"; std::filesystem::exists(jinja, error)) {
    return ChatTemplate(jinja.string(), ReadTextFile(jinja, kTemplateLimit));
  }
  const auto config_path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(config_path, error)) return std::nullopt;
  const nlohmann::json config = ReadJsonFile(config_path);
  if (!config.is_object()) throw CheckpointError(config_path.string() + ": not a JSON object");
  const std::string text = TemplateOf(config_path.string(), config);
  if (text.empty()) return std::nullopt;
  return ChatTemplate(config_path.string(), text);
}

ChatTemplate::ChatTemplate(const std::string& file, std::string_view text) {
  const auto refuse = [&](const std::string& reason) {
    throw CheckpointError(file + ": the chat template is not the ChatML one of Qwen3: " + reason +
                          "; give the prompt as token ids instead");
  };
  const std::string canonical = Canonical(text);
  const auto contains = [&](std::string_view part) { return canonical.find(part) != std::string::npos; };
  if (!contains("'<|im_start|>'+message.role+'\\n'+content+'<|im_end|>'") &&
      !contains("'<|im_start|>'+message.role+'\\n'+message.content+'<|im_end|>'")) {
    refuse("no turn of <|im_start|>, role, content, <|im_end|>");
  }
  if (!contains("'<|im_start|>system\\n'+messages[0].content+'<|im_end|>\\n'") &&
      !contains("'<|im_start|>system\\n'+messages[0]['content']+'<|im_end|>\\n'")) {
    refuse("no rule for a first system message");
  }
  // Qwen2.5 puts in a system message of its own where there is none.
  constexpr std::string_view kSystem = "<|im_start|>system\\n";
  for (auto i = canonical.find(kSystem); i != std::string::npos; i = canonical.find(kSystem, i + 1)) {
    if (canonical.compare(i + kSystem.size(), 1, "'") != 0) refuse("it adds a system message of its own");
  }
  drops_reasoning_ = contains("content.split('</think>')[-1].lstrip('\\n')");

  const auto prompt = canonical.find("ifadd_generation_prompt");
  if (prompt == std::string::npos) refuse("no generation prompt");
  const std::string_view rest = std::string_view(canonical).substr(prompt);
  generation_prompt_ = FirstLiteral(rest).value_or("");
  if (!generation_prompt_.starts_with("<|im_start|>assistant\n")) refuse("another generation prompt");
  const auto thinking = rest.find("enable_thinkingisfalse");
  if (thinking != std::string_view::npos) no_thinking_ = FirstLiteral(rest.substr(thinking)).value_or("");
}

std::string ChatTemplate::Render(const std::vector<ChatMessage>& messages, const ChatOptions& options) const {
  bool question_follows = false;
  for (auto message = messages.rbegin(); message != messages.rend(); ++message) {
    const std::string& content = message->content;
    if (message->role == "user") {
      if (content.starts_with("<tool_response>") && content.ends_with("</tool_response>")) {
        throw std::invalid_argument("chat template: responses of tools are not rendered");
      }
      question_follows = true;
    } else if (message->role == "assistant") {
      if (!question_follows) {
        throw std::invalid_argument("chat template: an assistant turn after the last question is not rendered");
      }
    } else if (message->role != "system") {
      throw std::invalid_argument("chat template: the role " + Quoted(message->role) +
                                  " is not system, user or assistant");
    }
  }
  std::string text;
  for (const ChatMessage& message : messages) {
    std::string_view content = message.content;
    if (message.role == "assistant" && drops_reasoning_) {
      constexpr std::string_view kEnd = "</think>";
      if (const auto end = content.rfind(kEnd); end != std::string_view::npos) {
        content.remove_prefix(end + kEnd.size());
        content.remove_prefix(std::min(content.find_first_not_of('\n'), content.size()));
      }
    }
    text += "<|im_start|>" + message.role + "\n";
    text += content;
    text += "<|im_end|>\n";
  }
  if (!options.add_generation_prompt) return text;
  text += generation_prompt_;
  if (!options.enable_thinking) {
    if (no_thinking_.empty()) {
      throw std::invalid_argument("chat template: this one has no switch for thinking");
    }
    text += no_thinking_;
  }
  return text;
}

}  // namespace suites
