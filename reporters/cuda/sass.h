// Atomic instructions in the text that nvdisasm makes of machine code.
#ifndef REPORTERS_CUDA_SASS_H_
#define REPORTERS_CUDA_SASS_H_

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace reporters {

struct AtomicCounts {
  // Additions of F16, BF16, F32 or F64 and their vectors: the instruction with its
  // modifiers, "REDG.E.ADD.F16x2.RN.STRONG.GPU", and how many. Where there is no
  // such instruction (shared memory, scalar halves, BF16 before sm_90) the
  // compiler makes a loop of an addition and a compare-and-swap:
  // "ATOMS.CAST.SPIN in a loop with FADD".
  std::map<std::string, int> float_adds;
  // Compare-and-swap without such a loop: what it is for is not known.
  std::map<std::string, int> compare_and_swap;
  std::map<std::string, int> others;  // integers, minimum, maximum, exchange, ...: any order gives the same
  void Add(const AtomicCounts& counts);
};

struct SassFunction {
  std::string name;  // mangled
  int instructions = 0;
  AtomicCounts atomics;
  std::set<std::string> calls;  // functions that it calls
};

// `text`: the output of `nvdisasm` (with or without -c). Functions in the order
// of their sections.
std::vector<SassFunction> ParseSass(std::string_view text);

// Of `function` and all that it calls, as far as it is in `functions`.
AtomicCounts AtomicsOf(const std::vector<SassFunction>& functions, std::string_view function);

// "8 REDG.E.ADD.F16x2.RN.STRONG.GPU, 1 ATOMG.E.ADD.F32..."; "" for none.
std::string Describe(const std::map<std::string, int>& counts);

}  // namespace reporters

#endif  // REPORTERS_CUDA_SASS_H_
