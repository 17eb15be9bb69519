// Which torch operators run.
#ifndef TESTS_KERNELS_OBSERVED_OPERATORS_H_
#define TESTS_KERNELS_OBSERVED_OPERATORS_H_

#include <ATen/record_function.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace kernels {

struct ObservedOperators {
  std::mutex mutex;
  std::set<std::string> names;
};
inline ObservedOperators& Observed() {
  static ObservedOperators observed;
  return observed;
}
inline std::unique_ptr<at::ObserverContext> NoteOperator(const at::RecordFunction& function) {
  const std::lock_guard lock(Observed().mutex);
  Observed().names.insert(function.name());
  return nullptr;
}

// Operators that ran on this thread while `call` did.
template <typename Call>
std::set<std::string> OperatorsOf(Call call) {
  Observed().names.clear();
  const at::CallbackHandle handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(NoteOperator).scopes({at::RecordScope::FUNCTION}));
  call();
  at::removeCallback(handle);
  return Observed().names;
}

}  // namespace kernels

#endif  // TESTS_KERNELS_OBSERVED_OPERATORS_H_
