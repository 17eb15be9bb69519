// UTF-8 and the byte alphabet of byte-level BPE.
#ifndef SUITES_TOKENIZER_UTF8_H_
#define SUITES_TOKENIZER_UTF8_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace suites {

// The offset of the first byte that is not part of well-formed UTF-8 (Unicode
// 15, table 3-7); nothing where all is well.
std::optional<std::size_t> FirstInvalidUtf8(std::string_view text);

// Each maximal subpart of an ill-formed sequence becomes one U+FFFD (Unicode 15,
// section 3.9), as Rust's String::from_utf8_lossy does for Hugging Face's decoder.
std::string ReplaceInvalidUtf8(std::string_view bytes);

// Normalization form C with the tables of Unicode 9, as Hugging Face tokenizers
// give it. `text` must be UTF-8.
std::string ToNfc(std::string_view text);

// The bytes that a token of a byte-level vocabulary stands for: GPT-2 writes
// each byte as one printable character ("Ġ" is the space). Nothing where `token`
// has a character outside that alphabet.
std::optional<std::string> BytesOfToken(std::string_view token);

}  // namespace suites

#endif  // SUITES_TOKENIZER_UTF8_H_
