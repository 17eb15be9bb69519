#include "suites/tokenizer/jinja_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/tokenizer/jinja_lexer.h"

namespace suites::jinja {
namespace {

using Kind = Node::Kind;
using NodePtr = std::unique_ptr<Node>;

// The tree is walked recursively, so its depth is bounded; the calls of the
// parser are bounded by the nesting.
constexpr int kMaxDepth = 200;
constexpr int kMaxNesting = 200;

constexpr std::array<std::string_view, 17> kFilters = {"count", "d",      "default", "first", "int",   "items",
                                                       "join",  "last",   "length",  "list",  "lower", "replace",
                                                       "safe",  "string", "tojson",  "trim",  "upper"};
constexpr std::array<std::string_view, 13> kTests = {"boolean",  "defined", "false",    "float",  "integer",
                                                     "iterable", "mapping", "none",     "number", "sequence",
                                                     "string",   "true",    "undefined"};
constexpr std::array<std::string_view, 9> kLoop = {"first",    "index",    "index0",   "last",     "length",
                                                   "nextitem", "previtem", "revindex", "revindex0"};

template <typename List>
bool Holds(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(Tokenize(source)) {}

  NodePtr Run() {
    NodePtr block = Block({});
    if (!At(Token::Kind::kEnd)) Fail("a tag that ends nothing");
    return block;
  }

 private:
  [[noreturn]] void Fail(const std::string& reason) const {
    throw Error("line " + std::to_string(Peek().line) + ": " + reason);
  }
  const Token& Peek() const { return tokens_[position_]; }
  bool At(Token::Kind kind) const { return Peek().kind == kind; }
  bool At(Token::Kind kind, std::string_view text) const { return At(kind) && Peek().text == text; }
  bool AtOperator(std::string_view text) const { return At(Token::Kind::kOperator, text); }
  bool AtName(std::string_view text) const { return At(Token::Kind::kName, text); }
  Token Next() {
    Token token = Peek();
    if (token.kind != Token::Kind::kEnd) ++position_;
    return token;
  }
  bool Take(std::string_view text) {
    const bool there = AtOperator(text) || AtName(text);
    if (there) ++position_;
    return there;
  }
  void Need(std::string_view text) {
    if (!Take(text)) Fail("no " + Quoted(text));
  }
  void Need(Token::Kind kind, const char* what) {
    if (!At(kind)) Fail(std::string("no ") + what);
    ++position_;
  }
  std::string Name() {
    if (!At(Token::Kind::kName)) Fail("no name");
    return Next().text;
  }

  template <typename... Children>
  NodePtr Make(Kind kind, std::string text, Children... children) const {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = Peek().line;
    node->text = std::move(text);
    (Add(*node, std::move(children)), ...);
    return node;
  }
  void Add(Node& node, NodePtr child) const {
    if (child != nullptr) node.depth = std::max(node.depth, child->depth + 1);
    if (node.depth > kMaxDepth) Fail("an expression deeper than " + std::to_string(kMaxDepth) + " levels");
    node.children.push_back(std::move(child));
  }
  NodePtr Constant(Value value) const {
    NodePtr node = Make(Kind::kConstant, "");
    node->value = std::move(value);
    return node;
  }

  // Counts how deeply calls of the parser nest.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting)
        parser_.Fail("nested deeper than " + std::to_string(kMaxNesting) + " levels");
    }
    ~Level() { --parser_.nesting_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  // Up to a tag that begins with one of `ends`, whose name is then next.
  NodePtr Block(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    NodePtr block = Make(Kind::kBlock, "");
    while (true) {
      if (At(Token::Kind::kData)) {
        Add(*block, Make(Kind::kData, Peek().text));
        ++position_;
      } else if (At(Token::Kind::kOutputBegin)) {
        ++position_;
        Add(*block, Make(Kind::kOutput, "", Expression()));
        Need(Token::Kind::kOutputEnd, "end of {{");
      } else if (At(Token::Kind::kBlockBegin)) {
        ++position_;
        if (At(Token::Kind::kName) && Holds(ends, Peek().text)) return block;
        Add(*block, Statement());
      } else {
        if (ends.size() > 0) Fail("no " + Quoted(*(ends.end() - 1)));
        return block;
      }
    }
  }
  void EndTag() { Need(Token::Kind::kBlockEnd, "end of {%"); }

  NodePtr Statement() {
    const std::string name = Name();
    if (name == "if") return If();
    if (name == "for") return For();
    if (name == "set") return Set();
    if (name == "generation") {  // transformers' mark of what the assistant says
      EndTag();
      NodePtr block = Block({"endgeneration"});
      Need("endgeneration");
      EndTag();
      return block;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) Fail(name + " outside of a loop");
      EndTag();
      return Make(name == "break" ? Kind::kBreak : Kind::kContinue, "");
    }
    Fail("the tag " + Quoted(name) + " is not read; read are if, for, set, break, continue");
  }

  NodePtr If() {
    NodePtr node = Make(Kind::kIf, "");
    Add(*node, Expression());
    EndTag();
    while (true) {
      Add(*node, Block({"elif", "else", "endif"}));
      if (Take("elif")) {
        Add(*node, Expression());
        EndTag();
        continue;
      }
      if (Take("else")) {
        EndTag();
        Add(*node, Block({"endif"}));
      }
      Need("endif");
      EndTag();
      return node;
    }
  }

  NodePtr For() {
    NodePtr node = Make(Kind::kFor, "");
    const bool bracket = Take("(");
    do node->names.push_back(Name());
    while (Take(","));
    if (bracket) Need(")");
    Need("in");
    Add(*node, Or());
    Add(*node, Take("if") ? Expression() : nullptr);
    if (AtName("recursive")) Fail("recursive loops are not read");
    EndTag();
    ++loops_;
    Add(*node, Block({"else", "endfor"}));
    --loops_;
    if (Take("else")) {
      EndTag();
      Add(*node, Block({"endfor"}));
    } else {
      Add(*node, nullptr);
    }
    Need("endfor");
    EndTag();
    return node;
  }

  NodePtr Set() {
    NodePtr node = Make(Kind::kSet, "");
    node->names.push_back(Name());
    if (Take(".")) node->names.push_back(Name());
    if (Take("=")) {
      Add(*node, Expression());
      EndTag();
    } else if (At(Token::Kind::kBlockEnd) && node->names.size() == 1) {
      EndTag();
      Add(*node, Block({"endset"}));
      Need("endset");
      EndTag();
    } else {
      Fail("a set of this kind is not read");
    }
    return node;
  }

  NodePtr Expression() {
    const Level level(*this);
    NodePtr node = Or();
    while (Take("if")) {
      NodePtr condition = Or();
      NodePtr other = Take("else") ? Expression() : nullptr;
      node = Make(Kind::kCondition, "", std::move(node), std::move(condition), std::move(other));
    }
    return node;
  }
  NodePtr Or() {
    NodePtr node = And();
    while (Take("or")) node = Make(Kind::kOr, "", std::move(node), And());
    return node;
  }
  NodePtr And() {
    NodePtr node = Not();
    while (Take("and")) node = Make(Kind::kAnd, "", std::move(node), Not());
    return node;
  }
  NodePtr Not() {
    const Level level(*this);
    if (Take("not")) return Make(Kind::kNot, "", Not());
    return Compare();
  }
  NodePtr Compare() {
    NodePtr node = Sum();
    for (int count = 0;; ++count) {
      std::string op;
      for (const char* text : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (AtOperator(text)) op = text;
      }
      if (AtName("in")) op = "in";
      if (AtName("not") && tokens_[position_ + 1].kind == Token::Kind::kName && tokens_[position_ + 1].text == "in") {
        op = "not in";
        ++position_;
      }
      if (op.empty()) return node;
      if (count > 0) Fail("a chain of comparisons is not read");
      ++position_;
      node = Make(Kind::kCompare, op, std::move(node), Sum());
    }
  }
  NodePtr Sum() {
    NodePtr node = Concatenation();
    while (AtOperator("+") || AtOperator("-")) {
      const std::string op = Next().text;
      node = Make(Kind::kBinary, op, std::move(node), Concatenation());
    }
    return node;
  }
  NodePtr Concatenation() {
    NodePtr node = Product();
    while (Take("~")) node = Make(Kind::kBinary, "~", std::move(node), Product());
    return node;
  }
  NodePtr Product() {
    NodePtr node = Unary(true);
    while (AtOperator("*") || AtOperator("/") || AtOperator("//") || AtOperator("%")) {
      const std::string op = Next().text;
      node = Make(Kind::kBinary, op, std::move(node), Unary(true));
    }
    if (AtOperator("**")) Fail("powers are not read");
    return node;
  }
  NodePtr Unary(bool filters) {
    const Level level(*this);
    NodePtr node;
    if (Take("-")) {
      node = Make(Kind::kNegate, "", Unary(false));
    } else if (Take("+")) {
      node = Unary(false);
    } else {
      node = Primary();
    }
    node = Postfix(std::move(node));
    return filters ? Filters(std::move(node)) : std::move(node);
  }

  NodePtr Primary() {
    const Token token = Next();
    switch (token.kind) {
      case Token::Kind::kName:
        if (token.text == "true" || token.text == "True") return Constant(Value::Of(true));
        if (token.text == "false" || token.text == "False") return Constant(Value::Of(false));
        if (token.text == "none" || token.text == "None") return Constant(Value::None());
        return Make(Kind::kName, token.text);
      case Token::Kind::kString: {
        std::string text = token.text;
        while (At(Token::Kind::kString)) text += Next().text;
        return Constant(Value::Of(std::move(text)));
      }
      case Token::Kind::kInt: {
        std::int64_t number = 0;
        const char* end = token.text.data() + token.text.size();
        if (std::from_chars(token.text.data(), end, number).ec != std::errc()) Fail("a number too large");
        return Constant(Value::Of(number));
      }
      case Token::Kind::kFloat:
        return Constant(Value::Of(std::strtod(token.text.c_str(), nullptr)));
      case Token::Kind::kOperator:
        if (token.text == "(") return Bracket();
        if (token.text == "[") {
          NodePtr list = Make(Kind::kList, "");
          while (!AtOperator("]")) {
            Add(*list, Expression());
            if (!AtOperator("]")) Need(",");
          }
          ++position_;
          return list;
        }
        if (token.text == "{") {
          NodePtr dict = Make(Kind::kDict, "");
          while (!AtOperator("}")) {
            Add(*dict, Expression());
            Need(":");
            Add(*dict, Expression());
            if (!AtOperator("}")) Need(",");
          }
          ++position_;
          return dict;
        }
        [[fallthrough]];
      default:
        Fail("no expression");
    }
  }

  // (a) or a tuple, which is rendered as a list.
  NodePtr Bracket() {
    NodePtr list = Make(Kind::kList, "");
    bool tuple = AtOperator(")");
    while (!AtOperator(")")) {
      Add(*list, Expression());
      if (AtOperator(")")) break;
      Need(",");
      tuple = true;
    }
    ++position_;
    return tuple ? std::move(list) : std::move(list->children[0]);
  }

  NodePtr Postfix(NodePtr node) {
    while (true) {
      if (Take(".")) {
        const std::string name = Name();
        if (node->kind == Kind::kName && node->text == "loop" && !Holds(kLoop, name)) {
          Fail("loop." + name + " is not read");
        }
        node = Make(Kind::kAttribute, name, std::move(node));
      } else if (Take("[")) {
        node = Subscript(std::move(node));
      } else if (Take("(")) {
        node = Make(Kind::kCall, "", std::move(node));
        Arguments(*node);
      } else {
        return node;
      }
    }
  }

  NodePtr Subscript(NodePtr node) {
    std::array<NodePtr, 3> bounds;
    std::size_t colons = 0;
    while (!AtOperator("]")) {
      if (Take(":")) {
        if (++colons > 2) Fail("no ']'");
      } else {
        if (bounds[colons] != nullptr) Fail("no ']'");
        bounds[colons] = Expression();
      }
    }
    ++position_;
    if (colons > 0) {
      return Make(Kind::kSlice, "", std::move(node), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]));
    }
    if (bounds[0] == nullptr) Fail("nothing between [ and ]");
    return Make(Kind::kItem, "", std::move(node), std::move(bounds[0]));
  }

  // Behind "(", up to and with ")".
  void Arguments(Node& call) {
    while (!Take(")")) {
      if (At(Token::Kind::kName) && tokens_[position_ + 1].kind == Token::Kind::kOperator &&
          tokens_[position_ + 1].text == "=") {
        call.names.push_back(Name());
        ++position_;
      } else if (!call.names.empty()) {
        Fail("an argument without a name behind one with a name");
      }
      if (AtOperator("*") || AtOperator("**")) Fail("arguments by * are not read");
      Add(call, Expression());
      if (!AtOperator(")")) Need(",");
    }
  }

  NodePtr Filters(NodePtr node) {
    while (true) {
      if (Take("|")) {
        const std::string name = Name();
        if (!Holds(kFilters, name)) Fail("the filter " + Quoted(name) + " is not read");
        node = Make(Kind::kFilter, name, std::move(node));
        if (Take("(")) Arguments(*node);
      } else if (Take("is")) {
        const bool negated = Take("not");
        const std::string name = Name();
        if (!Holds(kTests, name)) Fail("the test " + Quoted(name) + " is not read");
        node = Make(Kind::kTest, name, std::move(node));
        if (negated) node = Make(Kind::kNot, "", std::move(node));
      } else if (Take("(")) {
        node = Make(Kind::kCall, "", std::move(node));
        Arguments(*node);
      } else {
        return node;
      }
    }
  }

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

std::unique_ptr<Node> Parse(std::string_view source) { return Parser(source).Run(); }

}  // namespace suites::jinja
