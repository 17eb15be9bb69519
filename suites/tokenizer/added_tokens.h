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
