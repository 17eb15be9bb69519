// The tokens of a chat template.
#ifndef SUITES_TOKENIZER_JINJA_LEXER_H_
#define SUITES_TOKENIZER_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace suites::jinja {

struct Token {
  enum class Kind : std::uint8_t {
    kData,
    kBlockBegin,
    kBlockEnd,
    kOutputBegin,
    kOutputEnd,
    kName,
    kString,
    kInt,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// Ends with kEnd. White space is stripped as Jinja does with trim_blocks and
// lstrip_blocks. Throws Error that begins with "line N: ".
std::vector<Token> Tokenize(std::string_view source);

}  // namespace suites::jinja

#endif  // SUITES_TOKENIZER_JINJA_LEXER_H_
