#include "suites/tokenizer/chat_template.h"

#include <stdexcept>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/tokenizer/jinja.h"

namespace suites {
namespace {

constexpr std::size_t kTemplateLimit = std::size_t{1} << 20;

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

// "eos_token": "<|im_end|>", or an added token with that content.
nlohmann::ordered_json SpecialTokens(const nlohmann::json& config) {
  auto tokens = nlohmann::ordered_json::object();
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto token = config.find(name);
    if (token == config.end()) continue;
    if (token->is_string()) tokens[name] = token->get<std::string>();
    if (!token->is_object()) continue;
    const auto content = token->find("content");
    if (content != token->end() && content->is_string()) tokens[name] = content->get<std::string>();
  }
  return tokens;
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::Open(const std::filesystem::path& folder) {
  std::error_code error;
  const auto config_path = folder / "tokenizer_config.json";
  nlohmann::json config = nlohmann::json::object();
  if (std::filesystem::exists(config_path, error)) {
    config = ReadJsonFile(config_path);
    if (!config.is_object()) throw CheckpointError(config_path.string() + ": not a JSON object");
  }
  if (const auto jinja = folder / "chat_template.jinja"; std::filesystem::exists(jinja, error)) {
    return ChatTemplate(jinja.string(), ReadTextFile(jinja, kTemplateLimit), SpecialTokens(config));
  }
  const std::string text = TemplateOf(config_path.string(), config);
  if (text.empty()) return std::nullopt;
  return ChatTemplate(config_path.string(), text, SpecialTokens(config));
}

ChatTemplate::ChatTemplate(const std::string& file, std::string_view text, nlohmann::ordered_json special_tokens)
    : special_tokens_(std::move(special_tokens)) {
  if (text.size() > kTemplateLimit) throw CheckpointError(file + ": the chat template has more than 1 MiB");
  try {
    template_ = std::make_shared<const jinja::Template>(text);
  } catch (const jinja::Error& error) {
    throw CheckpointError(file + ": chat template: " + error.what() + "; give the prompt as token ids instead");
  }
}

std::string ChatTemplate::Render(const nlohmann::ordered_json& messages, const ChatOptions& options) const {
  nlohmann::ordered_json variables = special_tokens_;
  variables["messages"] = messages;
  variables["tools"] = options.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.add_generation_prompt;
  if (options.enable_thinking) variables["enable_thinking"] = *options.enable_thinking;
  for (const auto& [name, value] : options.more.items()) variables[name] = value;
  try {
    return template_->Render(variables);
  } catch (const jinja::Error& error) {
    throw std::invalid_argument(std::string("chat template: ") + error.what());
  }
}

std::string ChatTemplate::Render(const std::vector<ChatMessage>& messages, const ChatOptions& options) const {
  auto list = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  return Render(list, options);
}

}  // namespace suites
