#include "suites/tokenizer/added_tokens.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

using Json = nlohmann::json;

struct Character {
  utf8proc_int32_t codepoint = -1;
  std::size_t length = 0;  // 0 where there is none
};

Character FirstOf(std::string_view text) {
  Character character;
  if (text.empty()) return character;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  character.length = static_cast<std::size_t>(std::max<utf8proc_ssize_t>(
      1, utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &character.codepoint)));
  return character;
}

Character LastOf(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0 && (static_cast<unsigned char>(text[begin - 1]) & 0xc0) == 0x80) --begin;
  return begin == 0 ? Character{} : FirstOf(text.substr(begin - 1));
}

// White_Space of Unicode's PropList.txt.
bool IsSpace(utf8proc_int32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

// \w of UTS #18, annex C, which Hugging Face uses here; PCRE2's own \w lacks
// marks and connectors.
bool IsWord(std::string_view character) {
  static const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> word(
      [] {
        constexpr std::string_view kPattern = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
        int error = 0;
        PCRE2_SIZE offset = 0;
        return pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern.data()), kPattern.size(), PCRE2_UTF | PCRE2_UCP,
                             &error, &offset, nullptr);
      }(),
      &pcre2_code_free);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  &pcre2_match_data_free);
  if (word == nullptr || match == nullptr) throw std::runtime_error("PCRE2 cannot make the class of word characters");
  return pcre2_match(word.get(), reinterpret_cast<PCRE2_SPTR>(character.data()), character.size(), 0, 0, match.get(),
                     nullptr) >= 0;
}

[[noreturn]] void FailToken(const std::string& what, const Json& entry, const std::string& reason) {
  throw CheckpointError(what + ": " + Quoted(entry.dump(-1, ' ', true)) + ": " + reason);
}

// All but its id.
AddedToken ParseToken(const std::string& what, const Json& entry) {
  if (!entry.is_object()) FailToken(what, entry, "not an object");
  const auto flag = [&](const char* key, bool missing) {
    const auto value = entry.find(key);
    if (value == entry.end()) return missing;
    if (!value->is_boolean()) FailToken(what, entry, std::string(key) + " is not true or false");
    return value->get<bool>();
  };
  const auto content = entry.find("content");
  if (content == entry.end() || !content->is_string()) FailToken(what, entry, "no content");
  AddedToken token;
  token.content = content->get<std::string>();
  token.special = flag("special", false);
  token.normalized = flag("normalized", !token.special);
  token.lstrip = flag("lstrip", false);
  token.rstrip = flag("rstrip", false);
  token.single_word = flag("single_word", false);
  return token;
}

// The tokens that a tokenizer_config.json calls special, by name or in a list.
std::vector<AddedToken> SpecialTokensOf(const std::string& file, const Json& config) {
  std::vector<AddedToken> tokens;
  const auto add = [&](const Json& entry) {
    if (entry.is_object() && entry.contains("content")) {
      tokens.push_back(ParseToken(file + ": special tokens", entry));
    } else if (entry.is_string()) {
      tokens.push_back({.content = entry.get<std::string>()});
    } else {
      return;
    }
    tokens.back().special = true;
  };
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (const auto token = config.find(name); token != config.end()) add(*token);
  }
  for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto list = config.find(name);
    if (list == config.end() || !list->is_structured()) continue;
    for (const Json& token : *list) add(token);
  }
  return tokens;
}

}  // namespace

void AddTokensOfConfig(const std::string& file, const Json& config,
                       const std::unordered_map<std::string, std::int32_t>& vocabulary,
                       std::vector<AddedToken>& tokens) {
  const auto with = [&](const std::string& content) {
    return std::find_if(tokens.begin(), tokens.end(), [&](const AddedToken& t) { return t.content == content; });
  };
  const auto add = [&](AddedToken token) {
    if (token.content.empty()) return;
    if (const auto known = with(token.content); known != tokens.end()) {
      token.id = known->id;
      *known = std::move(token);
      return;
    }
    const auto word = vocabulary.find(token.content);
    token.id = static_cast<std::int64_t>(vocabulary.size());
    for (const AddedToken& other : tokens) token.id = std::max(token.id, other.id + 1);
    if (word != vocabulary.end()) token.id = word->second;
    tokens.push_back(std::move(token));
  };
  const auto decoder = config.find("added_tokens_decoder");
  if (decoder != config.end() && !decoder->is_null()) {
    if (!decoder->is_object()) throw CheckpointError(file + ": added_tokens_decoder is not an object");
    std::map<std::uint64_t, const Json*> by_id;
    for (const auto& [key, entry] : decoder->items()) {
      std::uint64_t id = 0;
      const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (problem != std::errc() || end != key.data() + key.size()) {
        throw CheckpointError(file + ": added_tokens_decoder: " + Quoted(key) + " is not a token id");
      }
      by_id[id] = &entry;
    }
    for (const auto& [id, entry] : by_id) add(ParseToken(file + ": added_tokens_decoder", *entry));
  }
  for (AddedToken& token : SpecialTokensOf(file, config)) {
    if (with(token.content) == tokens.end()) add(std::move(token));
  }
}

std::vector<AddedToken> ReadAddedTokens(const std::string& file, const Json& tokenizer) {
  std::vector<AddedToken> tokens;
  const auto list = tokenizer.find("added_tokens");
  if (list == tokenizer.end() || list->is_null()) return tokens;
  if (!list->is_array()) throw CheckpointError(file + ": added_tokens is not a list");
  for (const Json& entry : *list) {
    const std::string what = file + ": added_tokens";
    AddedToken token = ParseToken(what, entry);
    const auto id = entry.find("id");
    if (id == entry.end() || !id->is_number_unsigned() ||
        id->get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max()) {
      FailToken(what, entry, "no id");
    }
    token.id = id->get<std::int64_t>();
    if (!token.content.empty()) tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    by_first_byte_[static_cast<unsigned char>(tokens_[i].content.front())].push_back(i);
  }
  for (auto& indices : by_first_byte_) {
    std::stable_sort(indices.begin(), indices.end(), [&](std::size_t a, std::size_t b) {
      return tokens_[a].content.size() > tokens_[b].content.size();
    });
  }
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text) const {
  for (const std::size_t index : by_first_byte_[static_cast<unsigned char>(text.front())]) {
    if (text.starts_with(tokens_[index].content)) return &tokens_[index];
  }
  return nullptr;
}

void AddedTokenFinder::Split(std::string_view text,
                             const std::function<void(std::string_view, std::optional<std::int64_t>)>& piece) const {
  std::size_t done = 0;  // everything before was given to `piece`
  for (std::size_t i = 0; i < text.size();) {
    const AddedToken* token = tokens_.empty() ? nullptr : LongestAt(text.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    std::size_t begin = i;
    std::size_t end = i + token->content.size();
    i = end;
    if (token->single_word) {
      const std::size_t before = LastOf(text.substr(0, begin)).length;
      const std::size_t after = FirstOf(text.substr(end)).length;
      if (IsWord(text.substr(begin - before, before)) || IsWord(text.substr(end, after))) continue;
    }
    if (token->lstrip) {
      for (Character c = LastOf(text.substr(0, begin)); begin > done && c.length > 0 && IsSpace(c.codepoint);
           c = LastOf(text.substr(0, begin))) {
        begin -= c.length;
      }
    }
    if (token->rstrip) {
      for (Character c = FirstOf(text.substr(end)); c.length > 0 && IsSpace(c.codepoint);
           c = FirstOf(text.substr(end))) {
        end += c.length;
      }
    }
    // White space that the token before has taken: Hugging Face drops a token
    // that strips on its left there, and gives one that does not a second time.
    if (token->lstrip && end <= done) continue;
    if (begin > done) piece(text.substr(done, begin - done), std::nullopt);
    piece(text.substr(begin, end - begin), token->id);
    done = end;
  }
  if (done < text.size()) piece(text.substr(done), std::nullopt);
}

}  // namespace suites
