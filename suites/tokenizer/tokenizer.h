// Byte-level BPE as in a Hugging Face tokenizer.json with Qwen2's pre-tokenizer.
#ifndef SUITES_TOKENIZER_TOKENIZER_H_
#define SUITES_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace suites {

class Tokenizer {
 public:
  // Reads FOLDER/tokenizer.json. Throws CheckpointError: missing, not JSON, a
  // model, normalizer or pre-tokenizer that is not of the kind above.
  static Tokenizer Open(const std::filesystem::path& folder);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // `text` is UTF-8; throws std::invalid_argument where it is not. Added tokens
  // in the text become their own id, as Hugging Face's encode() does.
  std::vector<std::int64_t> Encode(std::string_view text) const;
  // Bytes that are not UTF-8 become U+FFFD. Unknown ids throw std::invalid_argument.
  std::string Decode(const std::vector<std::int64_t>& ids, bool skip_special_tokens = false) const;
  std::int64_t vocab_size() const;  // largest id + 1

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace suites

#endif  // SUITES_TOKENIZER_TOKENIZER_H_
