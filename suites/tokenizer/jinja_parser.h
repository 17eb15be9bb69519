// The syntax tree of a chat template.
#ifndef SUITES_TOKENIZER_JINJA_PARSER_H_
#define SUITES_TOKENIZER_JINJA_PARSER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "suites/tokenizer/jinja_value.h"

namespace suites::jinja {

struct Node {
  enum class Kind : std::uint8_t {
    // Expressions; their operands are children, in order.
    kConstant,   // value
    kName,       // text
    kList,       // children
    kDict,       // keys and values in turn
    kAttribute,  // .text of the child
    kItem,       // [1] of [0]
    kSlice,      // [0][1:2:3], absent bounds are null
    kCall,       // [0] of the others; the last names.size() of them have these names
    kFilter,     // text, of [0], more arguments as kCall
    kTest,       // text, as kFilter
    kNot,
    kNegate,
    kBinary,   // text: + - * / // % ~
    kCompare,  // text: == != < <= > >= in "not in"
    kAnd,
    kOr,
    kCondition,  // [0] if [1] else [2], which may be null
    // Statements.
    kBlock,   // children, one after the other
    kData,    // text as it is
    kOutput,  // {{ child }}
    kIf,      // condition and block in turn, then perhaps a last block
    kFor,     // names; iterable, condition or null, block, else or null
    kSet,     // names: variable, or namespace and attribute; the child is an expression or a block
    kBreak,
    kContinue
  };
  Kind kind = Kind::kBlock;
  int line = 0;
  int depth = 1;  // of the tree below
  std::string text;
  Value value;
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Node>> children;
};

// Parses the part of Jinja that chat templates of the Qwen family need, with
// trim_blocks and lstrip_blocks as transformers sets them. Throws Error that
// begins with "line N: ": not Jinja, or outside of that part.
std::unique_ptr<Node> Parse(std::string_view source);

}  // namespace suites::jinja

#endif  // SUITES_TOKENIZER_JINJA_PARSER_H_
