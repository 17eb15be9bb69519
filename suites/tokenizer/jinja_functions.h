// Filters, tests, methods and functions of a chat template.
#ifndef SUITES_TOKENIZER_JINJA_FUNCTIONS_H_
#define SUITES_TOKENIZER_JINJA_FUNCTIONS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "suites/tokenizer/jinja_value.h"

namespace suites::jinja {

// What a rendering may still cost, in bytes made; a step counts as kStep.
class Budget {
 public:
  static constexpr std::size_t kStep = 16;
  // Throws Error where it is spent.
  void Spend(std::size_t cost);

 private:
  std::size_t left_ = std::size_t{1} << 28;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // By position or by name; nullptr where it was not given.
  const Value* Get(std::size_t index, std::string_view name) const;
};

// What a loop over `value` goes through. Throws Error.
Value::List ItemsOf(const Value& value, Budget& budget);

// All throw Error: unknown, or a value of the wrong type.
Value ApplyFilter(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget);
bool ApplyTest(const std::string& name, const Value& value);
Value CallMethod(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget);
Value CallFunction(const std::string& name, const Arguments& arguments, Budget& budget);
Value Binary(const std::string& op, const Value& left, const Value& right, Budget& budget);
bool Compare(const std::string& op, const Value& left, const Value& right, Budget& budget);

}  // namespace suites::jinja

#endif  // SUITES_TOKENIZER_JINJA_FUNCTIONS_H_
