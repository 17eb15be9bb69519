// What the dynamic linker will ask of a shared library, read from its file, so
// that a library that does not fit is refused before its code runs.
#ifndef KERNELS_PROVIDERS_ELF_LIBRARY_H_
#define KERNELS_PROVIDERS_ELF_LIBRARY_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace kernels::internal {

struct ElfLibrary {
  std::vector<std::string> needed;     // file names of the libraries that it links
  std::vector<std::string> undefined;  // mangled names that others must define; weak ones left out
};

// Reads the bytes of a file. Both lists are empty where the file has no section
// headers. Throws std::invalid_argument, one line without the file's name: not
// an ELF file, not a shared library, of another machine, cut short.
ElfLibrary ReadElfLibrary(std::span<const std::byte> file);

}  // namespace kernels::internal

#endif  // KERNELS_PROVIDERS_ELF_LIBRARY_H_
