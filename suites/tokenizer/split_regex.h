// The Split pre-tokenizer of a tokenizer.json.
#ifndef SUITES_TOKENIZER_SPLIT_REGEX_H_
#define SUITES_TOKENIZER_SPLIT_REGEX_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace suites {

class SplitRegex {
 public:
  // `pattern` in the syntax of Oniguruma, which Hugging Face tokenizers use, as
  // far as it means the same in PCRE2: \s and \S are translated to Unicode's
  // White_Space (PCRE2's \s also holds U+180E), any escape whose meaning differs
  // is refused. Throws CheckpointError that begins with `file`.
  SplitRegex(const std::string& file, std::string_view pattern);
  ~SplitRegex();
  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;

  // Calls `piece` with every match and every stretch between two matches, in
  // order; together they are `text` ("behavior": "Isolated"). `text` must be
  // UTF-8. Throws std::runtime_error where PCRE2 reaches a limit.
  void Split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace suites

#endif  // SUITES_TOKENIZER_SPLIT_REGEX_H_
