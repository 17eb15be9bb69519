#include "suites/tokenizer/utf8.h"

#include <array>
#include <cstdint>

namespace suites {
namespace {

struct Sequence {
  std::size_t length;  // bytes of a well-formed character, or of a maximal subpart
  bool valid;
};

// The sequence that begins `text`, which is not empty.
Sequence FirstSequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {1, true};
  // Table 3-7: the length by the first byte, the range of the second.
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;   // shorter forms exist below
    if (first == 0xed) high = 0x9f;  // surrogates
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;  // above U+10FFFF
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xbf;
  }
  return {length, true};
}

// GPT-2 (openai/gpt-2, src/encoder.py, bytes_to_unicode): printable Latin-1
// bytes stand for themselves, the others for U+0100, U+0101 and so on.
std::array<std::int16_t, 0x144> MakeByteOfCodepoint() {
  std::array<std::int16_t, 0x144> table;
  table.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table[static_cast<std::size_t>(printable ? byte : next++)] = static_cast<std::int16_t>(byte);
  }
  return table;
}

}  // namespace

std::optional<std::size_t> FirstInvalidUtf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const Sequence sequence = FirstSequence(text.substr(i));
    if (!sequence.valid) return i;
    i += sequence.length;
  }
  return std::nullopt;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    const Sequence sequence = FirstSequence(bytes.substr(i));
    text += sequence.valid ? bytes.substr(i, sequence.length) : std::string_view("\xef\xbf\xbd");
    i += sequence.length;
  }
  return text;
}

std::optional<std::string> BytesOfToken(std::string_view token) {
  static const std::array table = MakeByteOfCodepoint();
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const auto byte = static_cast<unsigned char>(token[i]);
    std::size_t codepoint = byte;
    std::size_t length = 1;
    if (byte >= 0x80) {
      // The alphabet ends below U+0144, so two bytes are enough.
      if (byte < 0xc2 || byte > 0xdf || i + 1 >= token.size()) return std::nullopt;
      codepoint = (byte & 0x1fU) << 6 | (static_cast<unsigned char>(token[i + 1]) & 0x3fU);
      length = 2;
    }
    if (codepoint >= table.size() || table[codepoint] < 0) return std::nullopt;
    bytes += static_cast<char>(table[codepoint]);
    i += length;
  }
  return bytes;
}

}  // namespace suites
