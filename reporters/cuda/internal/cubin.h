// The functions of a cubin, from its ELF symbol table.
#ifndef REPORTERS_CUDA_INTERNAL_CUBIN_H_
#define REPORTERS_CUDA_INTERNAL_CUBIN_H_

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace reporters::internal {

struct CubinFunction {
  std::string name;     // mangled
  unsigned index = 0;   // in the symbol table
  bool kernel = false;  // can be launched
};

// Of an ELF64 image; empty where `cubin` is none or is cut short.
inline std::vector<CubinFunction> FunctionsOf(std::string_view cubin) {
  // STO_CUDA_ENTRY of a symbol's st_other: a kernel.
  constexpr unsigned char kEntry = 0x10;
  std::vector<CubinFunction> functions;
  const auto read = [&](std::uint64_t offset, auto* value) {
    if (offset > cubin.size() || cubin.size() - offset < sizeof(*value)) return false;
    std::memcpy(value, cubin.data() + offset, sizeof(*value));
    return true;
  };
  Elf64_Ehdr header;
  if (!read(0, &header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64) {
    return functions;
  }
  const auto section = [&](unsigned index, Elf64_Shdr* out) {
    return index < header.e_shnum && header.e_shentsize == sizeof(Elf64_Shdr) &&
           read(header.e_shoff + std::uint64_t{index} * sizeof(Elf64_Shdr), out);
  };
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr symbols, strings;
    if (!section(i, &symbols) || symbols.sh_type != SHT_SYMTAB || !section(symbols.sh_link, &strings)) continue;
    for (std::uint64_t n = 0; n < symbols.sh_size / sizeof(Elf64_Sym); ++n) {
      Elf64_Sym symbol;
      if (!read(symbols.sh_offset + n * sizeof(Elf64_Sym), &symbol)) break;
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
      const std::uint64_t at = strings.sh_offset + symbol.st_name;
      if (symbol.st_name >= strings.sh_size || at >= cubin.size()) continue;
      const std::string_view rest = cubin.substr(at, strings.sh_size - symbol.st_name);
      const std::string_view name = rest.substr(0, rest.find('\0'));
      // "$caller$callee" lies in its caller's section.
      if (name.starts_with('$')) continue;
      functions.push_back({std::string(name), static_cast<unsigned>(n), (symbol.st_other & kEntry) != 0});
    }
  }
  return functions;
}

}  // namespace reporters::internal

#endif  // REPORTERS_CUDA_INTERNAL_CUBIN_H_
