// For comparison with Hugging Face: reads JSON lines, writes JSON lines.
//
//   tokenizer_program encode FOLDER   "text" -> [ids]
//   tokenizer_program decode FOLDER   [ids] -> "text"
//   tokenizer_program split FOLDER    "text" -> ["normalized", "in", "pieces"], by the pattern of the Split
//   pre-tokenizer tokenizer_program render FILE     {"messages", "tools", "add_generation_prompt", "kwargs"} ->
//   {"text"} or {"error"} tokenizer_program time FOLDER     a whole text: seconds of reading, of encoding, number of
//   ids
#include <chrono>
#include <exception>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "suites/checkpoint/json_file.h"
#include "suites/tokenizer/chat_template.h"
#include "suites/tokenizer/split_regex.h"
#include "suites/tokenizer/tokenizer.h"
#include "suites/tokenizer/utf8.h"

namespace {

using Json = nlohmann::ordered_json;

int Time(const std::string& folder) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  auto start = Clock::now();
  const auto tokenizer = suites::Tokenizer::Open(folder);
  std::cout << seconds(start);
  start = Clock::now();
  const auto ids = tokenizer.Encode(text);
  std::cout << ' ' << seconds(start) << ' ' << ids.size() << '\n';
  return 0;
}

Json Rendered(const suites::ChatTemplate& chat, const Json& line) {
  try {
    return {{"text", chat.Render(line["messages"], {.add_generation_prompt = line["add_generation_prompt"],
                                                    .enable_thinking = {},
                                                    .tools = line["tools"],
                                                    .more = line["kwargs"]})}};
  } catch (const std::invalid_argument& error) {
    return {{"error", error.what()}};
  }
}

int Run(const std::string& mode, const std::string& path) {
  std::ios::sync_with_stdio(false);
  if (mode == "time") return Time(path);
  std::string line;
  if (mode == "render") {
    const suites::ChatTemplate chat(path, suites::ReadTextFile(path, 1 << 20));
    while (std::getline(std::cin, line)) std::cout << Rendered(chat, Json::parse(line)).dump() << '\n';
    return 0;
  }
  if (mode == "split") {
    const Json parts = Json::parse(suites::ReadTextFile(path + "/tokenizer.json", suites::kJsonFileLimit));
    const suites::SplitRegex regex(path,
                                   parts["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].get<std::string>());
    while (std::getline(std::cin, line)) {
      Json pieces = Json::array();
      const std::string text = suites::ToNfc(Json::parse(line).get<std::string>());
      regex.Split(text, [&](std::string_view piece) { pieces.push_back(std::string(piece)); });
      std::cout << pieces.dump() << '\n';
    }
    return 0;
  }
  const auto tokenizer = suites::Tokenizer::Open(path);
  while (std::getline(std::cin, line)) {
    const Json value = Json::parse(line);
    if (mode == "encode") {
      std::cout << Json(tokenizer.Encode(value.get<std::string>())).dump() << '\n';
    } else {
      std::cout << Json(tokenizer.Decode(value.get<std::vector<std::int64_t>>())).dump() << '\n';
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: tokenizer_program encode|decode|split|render|time PATH\n";
    return 2;
  }
  try {
    return Run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
