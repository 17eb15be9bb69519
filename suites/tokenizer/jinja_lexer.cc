#include "suites/tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "suites/checkpoint/json_file.h"
#include "suites/tokenizer/jinja_value.h"
#include "suites/tokenizer/utf8.h"

namespace suites::jinja {
namespace {

bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// One kind of line end, and without the last one (keep_trailing_newline is off).
std::string Normalized(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(Normalized(source)) {}

  std::vector<Token> Run() {
    if (const auto invalid = FirstInvalidUtf8(source_)) Fail("not UTF-8");
    while (position_ < source_.size()) Text();
    Push(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& reason) const {
    throw Error("line " + std::to_string(line_) + ": " + reason);
  }
  void Push(Token::Kind kind, std::string text) {
    tokens_.push_back({.kind = kind, .text = std::move(text), .line = line_});
  }
  std::string_view Rest() const { return std::string_view(source_).substr(position_); }
  void Advance(std::size_t size) {
    const auto part = Rest().substr(0, size);
    line_ += static_cast<int>(std::count(part.begin(), part.end(), '\n'));
    position_ += part.size();
    if (!part.empty()) line_starts_ = part.back() == '\n';
  }
  void SkipBlanks() {
    std::size_t size = 0;
    while (size < Rest().size() && IsBlank(Rest()[size])) ++size;
    Advance(size);
  }

  // Text up to the next tag, then the tag.
  void Text() {
    const std::string_view rest = Rest();
    std::size_t at = 0;
    for (at = rest.find('{'); at != rest.npos; at = rest.find('{', at + 1)) {
      const char next = at + 1 < rest.size() ? rest[at + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') break;
    }
    if (at == rest.npos) {
      Push(Token::Kind::kData, std::string(rest));
      Advance(rest.size());
      return;
    }
    const char kind = rest[at + 1];
    const char sign = at + 2 < rest.size() ? rest[at + 2] : '\0';
    std::string_view data = rest.substr(0, at);
    if (sign == '-') {
      data = Strip(data, nullptr, false, true);
    } else if (sign != '+' && kind != '{') {
      const auto feed = data.rfind('\n');
      const std::size_t line = feed == data.npos ? 0 : feed + 1;
      if ((line > 0 || line_starts_) && Strip(data.substr(line), nullptr, true, false).empty())
        data = data.substr(0, line);
    }
    if (!data.empty()) Push(Token::Kind::kData, std::string(data));
    Advance(at + (sign == '-' || sign == '+' ? 3 : 2));
    if (kind == '#') {
      Comment();
    } else {
      Push(kind == '{' ? Token::Kind::kOutputBegin : Token::Kind::kBlockBegin, "");
      Tag(kind == '{');
    }
  }

  void Comment() {
    const auto end = Rest().find("#}");
    if (end == std::string_view::npos) Fail("a comment without its end");
    const char sign = end > 0 ? Rest()[end - 1] : '\0';
    Advance(end + 2);
    AfterTag(sign, false);
  }

  void AfterTag(char sign, bool output) {
    if (sign == '-') {
      SkipBlanks();
    } else if (sign != '+' && !output && Rest().starts_with('\n')) {
      Advance(1);
    }
  }

  void Tag(bool output) {
    const std::string_view end = output ? "}}" : "%}";
    std::string open;  // brackets
    while (true) {
      SkipBlanks();
      const std::string_view rest = Rest();
      if (rest.empty()) Fail("a tag without its end");
      if (open.empty()) {
        const bool sign = rest[0] == '-' || (rest[0] == '+' && !output);
        if (rest.substr(sign ? 1 : 0).starts_with(end)) {
          Push(output ? Token::Kind::kOutputEnd : Token::Kind::kBlockEnd, "");
          const char how = sign ? rest[0] : '\0';
          Advance(end.size() + (sign ? 1 : 0));
          AfterTag(how, output);
          return;
        }
      }
      if (rest[0] == '\'' || rest[0] == '"') {
        String(rest[0]);
      } else if (IsDigit(rest[0])) {
        Number();
      } else if (IsNameStart(rest[0])) {
        std::size_t size = 1;
        while (size < rest.size() && (IsNameStart(rest[size]) || IsDigit(rest[size]))) ++size;
        Push(Token::Kind::kName, std::string(rest.substr(0, size)));
        Advance(size);
      } else {
        Operator(&open);
      }
    }
  }

  void Number() {
    const std::string_view rest = Rest();
    std::size_t size = 0;
    const auto digits = [&] {
      while (size < rest.size() && IsDigit(rest[size])) ++size;
    };
    digits();
    bool real = false;
    if (size + 1 < rest.size() && rest[size] == '.' && IsDigit(rest[size + 1])) {
      real = true;
      ++size;
      digits();
    }
    if (size < rest.size() && (rest[size] == 'e' || rest[size] == 'E')) {
      const bool sign = size + 1 < rest.size() && (rest[size + 1] == '-' || rest[size + 1] == '+');
      if (const std::size_t at = size + (sign ? 2 : 1); at < rest.size() && IsDigit(rest[at])) {
        real = true;
        size = at;
        digits();
      }
    }
    if (size < rest.size() && IsNameStart(rest[size])) Fail("a number that is not read");
    Push(real ? Token::Kind::kFloat : Token::Kind::kInt, std::string(rest.substr(0, size)));
    Advance(size);
  }

  void Operator(std::string* open) {
    static constexpr std::array<std::string_view, 24> kOperators = {"==", "!=", "<=", ">=", "//", "**", "+", "-",
                                                                    "*",  "/",  "%",  "~",  "<",  ">",  "=", "(",
                                                                    ")",  "[",  "]",  "{",  "}",  ".",  ",", ":"};
    for (const std::string_view text : kOperators) {
      if (!Rest().starts_with(text)) continue;
      if (text == "(" || text == "[" || text == "{") *open += text;
      if (text == ")" || text == "]" || text == "}") {
        const char begin = text == ")" ? '(' : text == "]" ? '[' : '{';
        if (!open->ends_with(begin)) Fail("a bracket that was not opened");
        open->pop_back();
      }
      Push(Token::Kind::kOperator, std::string(text));
      Advance(text.size());
      return;
    }
    if (!Rest().starts_with('|')) Fail("the character " + Quoted(Rest().substr(0, 1)) + " is not read");
    Push(Token::Kind::kOperator, "|");
    Advance(1);
  }

  // The escapes of Python's strings.
  void String(char quote) {
    const std::string_view rest = Rest();
    std::string text;
    std::size_t i = 1;
    for (; i < rest.size() && rest[i] != quote; ++i) {
      if (rest[i] != '\\') {
        text += rest[i];
        continue;
      }
      if (++i >= rest.size()) break;
      constexpr std::string_view kPlain = "\\'\"abfnrtv";
      constexpr std::string_view kMeaning = "\\'\"\a\b\f\n\r\t\v";
      if (const auto found = kPlain.find(rest[i]); found != kPlain.npos) {
        text += kMeaning[found];
      } else if (rest[i] == 'x' || rest[i] == 'u') {
        const std::size_t digits = rest[i] == 'x' ? 2 : 4;
        text += Character(rest.substr(i + 1).substr(0, digits), digits);
        i += digits;
      } else if (rest[i] == 'U' || rest[i] == 'N' || IsDigit(rest[i]) || rest[i] == '\n') {
        Fail("the escape " + Quoted(rest.substr(i - 1, 2)) + " is not read");
      } else {
        text += '\\';
        text += rest[i];
      }
    }
    if (i >= rest.size()) Fail("a string without its end");
    Push(Token::Kind::kString, std::move(text));
    Advance(i + 1);
  }

  std::string Character(std::string_view hex, std::size_t digits) const {
    std::uint32_t c = 0;
    for (const char digit : hex) {
      const int value = IsDigit(digit)                 ? digit - '0'
                        : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                        : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                       : -1;
      if (value < 0) Fail("an escape without its digits");
      c = c << 4 | static_cast<std::uint32_t>(value);
    }
    if (hex.size() != digits) Fail("an escape without its digits");
    if (c >= 0xd800 && c < 0xe000) Fail("an escape of half a character");
    std::string out;
    if (c < 0x80) return {static_cast<char>(c)};
    if (c < 0x800) {
      out += static_cast<char>(0xc0 | c >> 6);
    } else {
      out += static_cast<char>(0xe0 | c >> 12);
      out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    }
    out += static_cast<char>(0x80 | (c & 0x3f));
    return out;
  }

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace suites::jinja
