// Which device functions add floating-point numbers atomically: from the machine
// code that the driver loaded, by way of NVIDIA's nvdisasm.
#ifndef REPORTERS_CUDA_MACHINE_CODE_H_
#define REPORTERS_CUDA_MACHINE_CODE_H_

#include <filesystem>
#include <string>
#include <vector>

#include "reporters/cuda/sass.h"
#include "reporters/record.h"

namespace reporters {

// Keeps a copy of each module of machine code that the driver loads from now on.
// Modules are loaded when the first of their kernels is launched: call this
// before the first use of a device, in a program that will want to know. It
// costs some microseconds for each module and nothing afterwards. False where it
// cannot be done, and `reason` says why; true where it is done already.
bool WatchModules(std::string* reason = nullptr);

struct FunctionCode {
  std::string name;  // mangled
  // kShown: its machine code adds floating-point numbers atomically. kRefuted: it
  // was read and does not. kNotLookedAt, with the reason: not watched, loaded
  // before, no nvdisasm; or only a compare-and-swap, whose operation is not known.
  Evidence float_atomics;
  AtomicCounts atomics;  // instructions of the function and of what it calls
};

// Of the functions with these mangled names, in their order. Every module that
// has one of the names is read, and counts.
std::vector<FunctionCode> ReadMachineCode(const std::vector<std::string>& functions);

// The disassembler: $PATH, $CUDA_HOME/bin, /usr/local/cuda/bin, then the wheel
// nvidia-cuda-nvdisasm beside the CUPTI that is loaded. Empty: none, and
// `reason` says where it was looked for.
std::filesystem::path FindNvdisasm(std::string* reason = nullptr);

// The machine code of `functions` in one cubin, as ParseSass() reads it. Throws
// std::runtime_error, one line.
std::vector<SassFunction> Disassemble(const std::filesystem::path& nvdisasm, const std::string& cubin,
                                      const std::vector<std::string>& functions);

}  // namespace reporters

#endif  // REPORTERS_CUDA_MACHINE_CODE_H_
