// Values of a chat template: those of Python that JSON knows, and namespaces.
#ifndef SUITES_TOKENIZER_JINJA_VALUE_H_
#define SUITES_TOKENIZER_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace suites::jinja {

// A template or a conversation that cannot be rendered: one line.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Immutable but for namespaces; copies share what they hold.
class Value {
 public:
  enum class Kind : std::uint8_t { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kDict, kNamespace };
  using List = std::vector<Value>;
  using Dict = std::vector<std::pair<std::string, Value>>;  // in the order of insertion

  Value() = default;
  static Value Undefined(std::string name);
  static Value None();
  static Value Of(bool value);
  static Value Of(std::int64_t value);
  static Value Of(double value);
  static Value Of(std::string value);
  static Value Of(const char* value) = delete;  // would be a bool
  // Throw Error where an item is a namespace, nests too deeply or weighs too much.
  static Value Of(List items);
  static Value Of(Dict items);
  static Value Namespace(Dict items);
  static Value FromJson(const nlohmann::ordered_json& json);

  Kind kind() const { return kind_; }
  bool Is(Kind kind) const { return kind_ == kind; }
  bool number() const { return kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat; }
  bool boolean() const { return integer_ != 0; }
  std::int64_t integer() const { return integer_; }  // of kBool and kInt
  double real() const { return kind_ == Kind::kFloat ? real_ : static_cast<double>(integer_); }
  const std::string& text() const { return *text_; }  // of kString; of kUndefined: its name
  const List& list() const { return *list_; }
  const Dict& dict() const { return *dict_; }  // of kDict and kNamespace
  // The value of a key of a dict or namespace, nullptr where it is missing.
  const Value* Find(std::string_view key) const;
  void Assign(const std::string& key, Value value);  // to a namespace

  // How much a walk through it visits: values, and bytes of their texts.
  std::size_t weight() const { return weight_; }

  bool Truth() const;
  bool operator==(const Value& other) const;  // as Python: 1 == 1.0 == True
  // For messages: "a string", "undefined ('tools')".
  std::string Name() const;
  // As {{ value }} writes it. Throws Error for lists and dicts, whose Python
  // spelling no chat template needs.
  std::string Text() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  void Hold(const Value& item);

  Kind kind_ = Kind::kNone;
  int depth_ = 0;  // of nested containers
  std::size_t weight_ = 1;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::shared_ptr<const std::string> text_;
  std::shared_ptr<const List> list_;
  std::shared_ptr<Dict> dict_;
};

// As json.dumps(value, ensure_ascii=False, indent=...) of Python writes it;
// `indent` below 0: on one line. Throws Error where a part is undefined.
std::string ToJson(const Value& value, int indent);

// Strings are of code points, as in Python. `text` must be UTF-8.
std::vector<std::string_view> Characters(std::string_view text);
// Without the characters of `set` at its ends; without a set: white space.
std::string_view Strip(std::string_view text, const std::string* set, bool left, bool right);

}  // namespace suites::jinja

#endif  // SUITES_TOKENIZER_JINJA_VALUE_H_
