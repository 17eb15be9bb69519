// Added tokens of a tokenizer.json: found in the text before the BPE sees it.
#ifndef SUITES_TOKENIZER_ADDED_TOKENS_H_
#define SUITES_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace suites {

struct AddedToken {
  std::int64_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for in the normalized text, else in the raw one
  bool lstrip = false;       // takes the white space on its left
  bool rstrip = false;       // and on its right
  bool single_word = false;  // only where no word character touches it
};

// "added_tokens" of `file`. Throws CheckpointError.
std::vector<AddedToken> ReadAddedTokens(const std::string& file, const nlohmann::json& tokenizer);

// Those of `file`, a tokenizer_config.json, as transformers adds them to a tokenizer that has
// `vocabulary` and `tokens`: an entry of "added_tokens_decoder" takes the place of a token
// with its content, or the next free id, whatever id it names; a special token that is not
// known ("pad_token", "additional_special_tokens") takes the next free id. Throws CheckpointError.
void AddTokensOfConfig(const std::string& file, const nlohmann::json& config,
                       const std::unordered_map<std::string, std::int32_t>& vocabulary,
                       std::vector<AddedToken>& tokens);

// Finds tokens in a text: leftmost, then longest, as Hugging Face does.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Calls `piece` with each part of `text` in order, and the id where the part
  // is a token.
  void Split(std::string_view text,
             const std::function<void(std::string_view, std::optional<std::int64_t>)>& piece) const;

 private:
  const AddedToken* LongestAt(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  // Indices of tokens_ by first byte, longest first.
  std::array<std::vector<std::size_t>, 256> by_first_byte_;
};

}  // namespace suites

#endif  // SUITES_TOKENIZER_ADDED_TOKENS_H_
