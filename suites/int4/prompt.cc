#include "suites/int4/prompt.h"

#include <fstream>
#include <iterator>
#include <optional>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/model_config.h"
#include "suites/tokenizer/chat_template.h"
#include "suites/tokenizer/tokenizer.h"

namespace suites {
namespace {

std::string ReadText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file))
    throw VariantError(file.string() + ": cannot be read; name a text file with --prompt-file");
  return {std::istreambuf_iterator<char>(in), {}};
}

// Ids that the embedding has no row for would be found out by the prompts alone that hold one.
void CheckFits(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder / "config.json", error)) return;
  const std::int64_t rows = ReadModelSizes(folder).vocab_size;
  if (tokenizer.vocab_size() <= rows) return;
  throw VariantError((folder / "tokenizer.json").string() + ": does not fit the model: its ids go up to " +
                     std::to_string(tokenizer.vocab_size() - 1) + ", the embedding has " + std::to_string(rows) +
                     " rows; take the tokenizer that belongs to the weights");
}

}  // namespace

std::vector<std::int64_t> ReadIds(const std::filesystem::path& file) {
  const nlohmann::json list = ReadJsonFile(file);
  std::vector<std::int64_t> ids;
  bool usable = list.is_array() && !list.empty();
  for (const nlohmann::json& id : usable ? list : nlohmann::json::array()) {
    usable = usable && id.is_number_integer();
    if (usable) ids.push_back(id.get<std::int64_t>());
  }
  if (!usable) throw VariantError(file.string() + ": must be a non-empty JSON list of token ids, [1, 2, 3]");
  return ids;
}

std::vector<std::int64_t> BuildPrompt(const SuiteOptions& options, const LocatedModel& model,
                                      const std::filesystem::path& default_prompt_file) {
  std::vector<std::int64_t> ids;
  if (options.prompt_ids_file) {
    ids = ReadIds(*options.prompt_ids_file);
  } else {
    const Tokenizer tokenizer = Tokenizer::Open(model.folder);
    CheckFits(tokenizer, model.folder);
    if (options.prompt) {
      ids = tokenizer.Encode(*options.prompt);
    } else if (options.prompt_file) {
      ids = tokenizer.Encode(ReadText(*options.prompt_file));
    } else if (model.embedded()) {
      ids = tokenizer.Encode(ReadText(default_prompt_file));
      if (std::ssize(ids) > kEmbeddedPromptTokens) ids.resize(kEmbeddedPromptTokens);
    } else {
      const std::string text = ReadText(default_prompt_file);
      const std::optional<ChatTemplate> chat = ChatTemplate::Open(model.folder);
      ids = tokenizer.Encode(chat ? chat->Render(std::vector<ChatMessage>{{"user", text}}) : text);
      if (std::ssize(ids) > kRealPromptTokens) ids.resize(kRealPromptTokens);
    }
  }
  if (options.prompt_length && std::ssize(ids) > *options.prompt_length) ids.resize(*options.prompt_length);
  if (ids.empty()) throw VariantError("the prompt has no token; give one with --prompt");
  return ids;
}

}  // namespace suites
