#include "suites/tokenizer/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/tokenizer/added_tokens.h"
#include "suites/tokenizer/bpe.h"
#include "suites/tokenizer/split_regex.h"
#include "suites/tokenizer/utf8.h"

namespace suites {
namespace {

using Json = nlohmann::json;

std::string TypeOf(const Json& part) {
  const auto type = part.is_object() ? part.find("type") : part.end();
  return type != part.end() && type->is_string() ? type->get<std::string>() : "";
}

bool Flag(const Json& part, const char* key, bool missing) {
  const auto value = part.find(key);
  return value == part.end() || !value->is_boolean() ? missing : value->get<bool>();
}

// A part of the pipeline that may be absent, single or a Sequence.
std::vector<Json> Parts(const Json& tokenizer, const char* key, const char* list) {
  const auto part = tokenizer.find(key);
  if (part == tokenizer.end() || part->is_null()) return {};
  if (TypeOf(*part) != "Sequence") return {*part};
  const auto parts = part->find(list);
  return parts != part->end() && parts->is_array() ? parts->get<std::vector<Json>>() : std::vector<Json>{*part};
}

}  // namespace

struct Tokenizer::Impl {
  struct Token {
    std::string bytes;
    bool special = false;
  };

  // `config`: of `config_file`, an object.
  Impl(const std::string& file, const Json& json, const std::string& config_file, const Json& config)
      : bpe(file, json.contains("model") ? json["model"] : Json()), regex(ReadPreTokenizer(file, json)) {
    nfc = ReadNormalizer(file, json);
    CheckRest(file, json);
    for (const auto& [text, id] : bpe.vocabulary()) Name(text, id, false);
    std::vector<AddedToken> raw;
    std::vector<AddedToken> normalized;
    std::vector<AddedToken> added = ReadAddedTokens(file, json);
    AddTokensOfConfig(config_file, config, bpe.vocabulary(), added);
    for (AddedToken& token : added) {
      const auto in_vocabulary = bpe.vocabulary().find(token.content);
      if (in_vocabulary != bpe.vocabulary().end() && in_vocabulary->second != token.id) {
        throw CheckpointError(file + ": added token " + Quoted(token.content) + " has id " + std::to_string(token.id) +
                              ", in the vocabulary it has " + std::to_string(in_vocabulary->second));
      }
      if (token.normalized && nfc) token.content = ToNfc(token.content);
      Name(token.content, token.id, token.special);
      (token.normalized ? normalized : raw).push_back(std::move(token));
    }
    raw_tokens = AddedTokenFinder(std::move(raw));
    normalized_tokens = AddedTokenFinder(std::move(normalized));
  }

  // A token as the ByteLevel decoder reads it: by the byte alphabet, or as it is
  // written where it has a character outside of that.
  void Name(const std::string& text, std::int64_t id, bool special) {
    tokens[id] = {BytesOfToken(text).value_or(text), special};
    largest_id = std::max(largest_id, id);
  }

  static bool ReadNormalizer(const std::string& file, const Json& json) {
    bool nfc = false;
    for (const Json& part : Parts(json, "normalizer", "normalizers")) {
      if (TypeOf(part) != "NFC") {
        throw CheckpointError(file + ": normalizer " + Quoted(part.dump(-1, ' ', true)) + " is not read, only NFC");
      }
      nfc = true;
    }
    return nfc;
  }

  static SplitRegex ReadPreTokenizer(const std::string& file, const Json& json) {
    const std::vector<Json> parts = Parts(json, "pre_tokenizer", "pretokenizers");
    const auto fail = [&](const std::string& reason) {
      throw CheckpointError(file + ": pre_tokenizer: " + reason +
                            "; what is read is Qwen2's: Split by a Regex, Isolated, then ByteLevel without a regex");
    };
    if (parts.size() != 2 || TypeOf(parts[0]) != "Split" || TypeOf(parts[1]) != "ByteLevel") {
      std::string types;
      for (const Json& part : parts) types += (types.empty() ? "" : ", ") + Quoted(TypeOf(part));
      fail("is [" + types + "]");
    }
    if (Flag(parts[1], "use_regex", true)) fail("ByteLevel with use_regex");
    if (Flag(parts[1], "add_prefix_space", true)) fail("ByteLevel with add_prefix_space");
    const Json& split = parts[0];
    if (split.value("behavior", Json()) != "Isolated" || Flag(split, "invert", false)) {
      fail("Split that is not Isolated, or inverted");
    }
    const Json pattern = split.value("pattern", Json());
    const auto regex = pattern.is_object() ? pattern.find("Regex") : pattern.end();
    if (regex == pattern.end() || !regex->is_string()) fail("Split without a Regex");
    return {file, regex->get_ref<const std::string&>()};
  }

  static void CheckRest(const std::string& file, const Json& json) {
    for (const Json& part : Parts(json, "post_processor", "processors")) {
      // ByteLevel changes offsets only; others add tokens.
      if (TypeOf(part) != "ByteLevel") {
        throw CheckpointError(file + ": post_processor " + Quoted(TypeOf(part)) + " is not read, only ByteLevel");
      }
    }
    const std::vector<Json> decoders = Parts(json, "decoder", "decoders");
    if (decoders.size() != 1 || TypeOf(decoders[0]) != "ByteLevel") {
      throw CheckpointError(file + ": the decoder is not ByteLevel, the only one that is read");
    }
  }

  Bpe bpe;
  SplitRegex regex;
  bool nfc = false;
  AddedTokenFinder raw_tokens{{}};
  AddedTokenFinder normalized_tokens{{}};
  std::unordered_map<std::int64_t, Token> tokens;
  std::int64_t largest_id = -1;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::Open(const std::filesystem::path& folder) {
  const auto path = folder / "tokenizer.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw CheckpointError(folder.string() + ": tokenizer.json is missing; a model folder needs it beside its weights");
  }
  const Json json = ReadJsonFile(path);
  if (!json.is_object()) throw CheckpointError(path.string() + ": not a JSON object");
  const auto config_path = folder / "tokenizer_config.json";
  Json config = Json::object();
  if (std::filesystem::exists(config_path, error)) config = ReadJsonFile(config_path);
  if (!config.is_object()) throw CheckpointError(config_path.string() + ": not a JSON object");
  if (Flag(config, "add_prefix_space", false)) {
    throw CheckpointError(config_path.string() + ": add_prefix_space is not built");
  }
  return Tokenizer(std::make_unique<Impl>(path.string(), json, config_path.string(), config));
}

std::vector<std::int64_t> Tokenizer::Encode(std::string_view text) const {
  if (const auto invalid = FirstInvalidUtf8(text)) {
    throw std::invalid_argument("text is not UTF-8 at byte " + std::to_string(*invalid));
  }
  std::vector<std::int64_t> ids;
  const auto encode_word = [&](std::string_view word) { impl_->bpe.Encode(word, &ids); };
  const auto encode_normalized = [&](std::string_view part, std::optional<std::int64_t> id) {
    if (id) {
      ids.push_back(*id);
    } else {
      impl_->regex.Split(part, encode_word);
    }
  };
  // Each stretch between two raw tokens is normalized by itself: a combining
  // mark behind a token does not join it.
  impl_->raw_tokens.Split(text, [&](std::string_view part, std::optional<std::int64_t> id) {
    if (id) {
      ids.push_back(*id);
    } else if (impl_->nfc) {
      impl_->normalized_tokens.Split(ToNfc(part), encode_normalized);
    } else {
      impl_->normalized_tokens.Split(part, encode_normalized);
    }
  });
  return ids;
}

std::string Tokenizer::Decode(const std::vector<std::int64_t>& ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const std::int64_t id : ids) {
    const auto token = impl_->tokens.find(id);
    if (token == impl_->tokens.end()) {
      throw std::invalid_argument("token id " + std::to_string(id) + " is not in the tokenizer");
    }
    if (!skip_special_tokens || !token->second.special) bytes += token->second.bytes;
  }
  return ReplaceInvalidUtf8(bytes);
}

std::int64_t Tokenizer::vocab_size() const { return impl_->largest_id + 1; }

}  // namespace suites
