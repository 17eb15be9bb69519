// Torch op libraries, opened at run time: shared libraries that register
// operators with PyTorch's dispatcher when they are loaded. Anybody's; those of
// the PyPI wheel vllm among them. No Python is needed.
#ifndef KERNELS_PROVIDERS_OP_LIBRARY_H_
#define KERNELS_PROVIDERS_OP_LIBRARY_H_

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kernels {

struct OpLibrary {
  std::filesystem::path path;  // absolute
  std::uint64_t bytes = 0;
  std::string digest;                  // XXH3-128 of the file, 32 hex digits, as `xxhsum -H2` prints it
  std::vector<std::string> operators;  // what it registered, "_C::gptq_gemm" or with ".overload", sorted
};

// Opens these files, in this order; libtorch's CUDA half first where there is a
// device. A file that this process has opened before is not opened again. They
// stay open. Throws std::invalid_argument, one line that names the file: there
// is none, it is not a shared library, it was built for another torch (with the
// version that this program has), a library that it needs is missing. One whose
// operator is registered already ends the process with such a line and code 2.
std::vector<OpLibrary> OpenOpLibraries(const std::vector<std::filesystem::path>& paths);

// All that this process has opened, in that order.
std::vector<OpLibrary> OpenedOpLibraries();

// The op libraries that were not named on the command line, unopened:
// $QUANT_OP_LIBRARIES (files, separated by colons); where that is unset or empty,
// the two of the package vllm in $VIRTUAL_ENV, else in the environment of the
// python3 on $PATH. Looks at folders only; starts no Python.
std::vector<std::filesystem::path> FindOpLibraries();

// The opened library that registered "_C::gptq_gemm"; none where no opened one did.
std::optional<OpLibrary> LibraryOfOperator(const std::string& op);

// An operator by name, "aten::mm", and overload, "" or "out". Throws
// std::invalid_argument, one line: what was opened lacks it, or has other overloads of it.
c10::OperatorHandle FindOperator(const std::string& op, const std::string& overload = "");

// "_C_stable_libtorch.abi3.so, 69171448 bytes, XXH3-128 0123..."; with the
// version of the package vllm before it, where the file lies in one.
std::string Describe(const OpLibrary& library);

}  // namespace kernels

#endif  // KERNELS_PROVIDERS_OP_LIBRARY_H_
