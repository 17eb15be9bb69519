#include "suites/tokenizer/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>
#include <stdexcept>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[160];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// Escapes outside and inside of [...]; the rest of the syntax is common.
std::string ToPcre2(const std::string& file, std::string_view pattern) {
  constexpr std::string_view kSame = "pPrntfdD";
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\') {
      out += pattern[i];
      continue;
    }
    const char next = ++i < pattern.size() ? pattern[i] : '\0';
    const bool letter = (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') || (next >= '0' && next <= '9');
    if (next == 's') {
      out += "\\p{White_Space}";
    } else if (next == 'S') {
      out += "\\P{White_Space}";
    } else if (next != '\0' && (!letter || kSame.find(next) != std::string_view::npos)) {
      out += '\\';
      out += next;
    } else {
      throw CheckpointError(file + ": pre_tokenizer: the escape " + Quoted(pattern.substr(i - 1, 2)) +
                            " in the pattern " + Quoted(pattern) + " is not read");
    }
  }
  return out;
}

}  // namespace

struct SplitRegex::Compiled {
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

SplitRegex::SplitRegex(const std::string& file, std::string_view pattern) : compiled_(std::make_unique<Compiled>()) {
  const std::string translated = ToPcre2(file, pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    throw CheckpointError(file + ": pre_tokenizer: PCRE2 does not take the pattern " + Quoted(pattern) + ": " +
                          ErrorText(error));
  }
  // Where PCRE2 was built without its JIT the interpreter gives the same matches.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
}

SplitRegex::~SplitRegex() = default;
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;

void SplitRegex::Split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create_from_pattern(compiled_->code, nullptr), &pcre2_match_data_free);
  if (match == nullptr) throw std::bad_alloc();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::size_t done = 0;  // everything before was given to `piece`
  std::size_t from = 0;
  while (from < text.size()) {
    const int found =
        pcre2_match(compiled_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      throw std::runtime_error("the tokenizer's pattern cannot be matched to a text of " + std::to_string(text.size()) +
                               " bytes: " + ErrorText(found));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
    const std::size_t begin = range[0];
    const std::size_t end = range[1];
    if (begin > done) piece(text.substr(done, begin - done));
    if (end > begin) piece(text.substr(begin, end - begin));
    done = end;
    from = end;
    if (end == begin) {  // an empty match: go on behind the next character
      do {
        ++from;
      } while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80);
    }
  }
  if (done < text.size()) piece(text.substr(done));
}

}  // namespace suites
