#include "kernels/providers/boxed_operator.h"

#include <sstream>
#include <stdexcept>

#include "kernels/providers/op_library.h"

namespace kernels::internal {

BoxedOperator::BoxedOperator(const std::string& op, const std::vector<std::string>& arguments) : op_(FindOperator(op)) {
  const c10::FunctionSchema& schema = op_.schema();
  bool same = schema.arguments().size() == arguments.size();
  for (std::size_t i = 0; same && i < arguments.size(); ++i) same = schema.arguments()[i].name() == arguments[i];
  if (same) return;
  std::ostringstream text;
  text << "operator " << op;
  if (const auto library = LibraryOfOperator(op)) text << " of " << library->path.string();
  text << " takes other arguments than that of vllm 0.23.0: " << schema;
  throw std::invalid_argument(text.str());
}

}  // namespace kernels::internal
