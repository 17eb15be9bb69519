// A tokenizer.json; behind a byte FF, which no JSON has, a text to encode, and behind another
// FF the tokenizer_config.json.
#include "suites/checkpoint/safetensors.h"
#include "suites/tokenizer/tokenizer.h"
#include "suites/tokenizer/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace {

// A pattern may reach a limit of PCRE2 on a text; that is an error in one line.
void RoundTrip(const suites::Tokenizer& tokenizer, std::string_view text) {
  fuzz::Accepts<std::runtime_error>([&] {
    const auto ids = tokenizer.Encode(text);
    for (const std::int64_t id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) fuzz::Die("an id outside of the vocabulary");
    }
    for (const bool skip : {false, true}) {
      if (suites::FirstInvalidUtf8(tokenizer.Decode(ids, skip))) fuzz::Die("decoded to what is not UTF-8");
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input = fuzz::Text(data, size);
  const std::size_t cut = input.find('\xff');
  const std::string_view behind = cut == input.npos ? "" : input.substr(cut + 1);
  const std::size_t second = behind.find('\xff');
  const std::string text = suites::ReplaceInvalidUtf8(behind.substr(0, second));
  input = input.substr(0, cut);
  fuzz::Write("tokenizer.json", input);
  fuzz::Write("tokenizer_config.json", second == behind.npos ? "{}" : behind.substr(second + 1));
  fuzz::Accepts<suites::CheckpointError>([&] {
    const auto tokenizer = suites::Tokenizer::Open(fuzz::Folder());
    RoundTrip(tokenizer, "It's 12 e\xcc\x81t\xc3\xa9s  <|im_end|>\n\n \xf0\x9f\x98\x80");
    RoundTrip(tokenizer, text);
  });
  return 0;
}
