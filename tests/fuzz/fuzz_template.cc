// A chat template; behind a byte FF, which no UTF-8 has, the messages as JSON.
#include <nlohmann/json.hpp>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/tokenizer/chat_template.h"
#include "suites/tokenizer/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace {

nlohmann::ordered_json Messages(std::string_view text) {
  auto messages = nlohmann::ordered_json::parse(text, nullptr, false);
  if (!messages.is_discarded()) return messages;
  return {{{"role", "system"}, {"content", "s"}},
          {{"role", "user"}, {"content", "u"}},
          {{"role", "assistant"}, {"content", "<think>\nt\n</think>\n\nx"}, {"tool_calls", {{{"name", "f"}}}}},
          {{"role", "tool"}, {"content", nullptr}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input = fuzz::Text(data, size);
  const std::size_t cut = input.find('\xff');
  fuzz::Accepts<suites::CheckpointError>([&] {
    const suites::ChatTemplate chat("chat_template.jinja", input.substr(0, cut));
    const auto messages = Messages(cut == input.npos ? "" : input.substr(cut + 1));
    fuzz::Accepts<std::invalid_argument>([&] {
      const std::string text = chat.Render(messages, {.enable_thinking = false, .tools = {{{"name", "f"}}}});
      if (suites::FirstInvalidUtf8(text)) fuzz::Die("rendered what is not UTF-8");
    });
  });
  return 0;
}
