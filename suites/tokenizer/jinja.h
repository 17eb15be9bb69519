// The part of Jinja that chat templates of the Qwen family need.
#ifndef SUITES_TOKENIZER_JINJA_H_
#define SUITES_TOKENIZER_JINJA_H_

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "suites/tokenizer/jinja_parser.h"
#include "suites/tokenizer/jinja_value.h"

namespace suites::jinja {

// A template that may come from anyone: what it may nest, compute and write is
// bounded, it reads no clock and no file.
class Template {
 public:
  // Throws Error: not Jinja, or outside of what is read (jinja_parser.h).
  explicit Template(std::string_view source);

  // As jinja2 renders it with transformers' settings; `variables` is an object.
  // Throws Error: the template's own raise_exception(), a variable of another
  // type than the template takes, a bound reached.
  std::string Render(const nlohmann::ordered_json& variables) const;

 private:
  std::unique_ptr<const Node> root_;
};

}  // namespace suites::jinja

#endif  // SUITES_TOKENIZER_JINJA_H_
