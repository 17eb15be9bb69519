#include "kernels/providers/elf_library.h"

#include <elf.h>

#include <cstring>
#include <stdexcept>

namespace kernels::internal {
namespace {

#if defined(__x86_64__)
constexpr auto kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr auto kMachine = EM_AARCH64;
#else
constexpr auto kMachine = EM_NONE;  // not checked
#endif

class Reader {
 public:
  explicit Reader(std::span<const std::byte> file) : file_(file) {}

  // The record at `offset`; a copy, since a damaged file need not align it.
  template <typename T>
  T At(std::uint64_t offset) const {
    T record;
    std::memcpy(&record, Bytes(offset, sizeof(T)).data(), sizeof(T));
    return record;
  }
  std::span<const std::byte> Bytes(std::uint64_t offset, std::uint64_t size) const {
    if (offset > file_.size() || size > file_.size() - offset) {
      throw std::invalid_argument("is cut short: its headers name bytes behind its end");
    }
    return file_.subspan(offset, size);
  }
  // The text at `offset` of a table of strings.
  std::string Text(const Elf64_Shdr& table, std::uint64_t offset) const {
    const std::span<const std::byte> bytes = Bytes(table.sh_offset, table.sh_size);
    if (offset >= bytes.size()) throw std::invalid_argument("is damaged: a name lies outside its table of names");
    const char* const first = reinterpret_cast<const char*>(bytes.data()) + offset;
    return {first, strnlen(first, bytes.size() - offset)};
  }

 private:
  std::span<const std::byte> file_;
};

}  // namespace

ElfLibrary ReadElfLibrary(std::span<const std::byte> file) {
  if (file.size() < sizeof(Elf64_Ehdr) || std::memcmp(file.data(), ELFMAG, SELFMAG) != 0) {
    throw std::invalid_argument("is not a shared library: it is no ELF file");
  }
  const Reader reader(file);
  const auto header = reader.At<Elf64_Ehdr>(0);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || (kMachine != EM_NONE && header.e_machine != kMachine)) {
    throw std::invalid_argument("is a library for another kind of machine than this");
  }
  if (header.e_type != ET_DYN) throw std::invalid_argument("is an ELF file, but not a shared library");

  ElfLibrary library;
  if (header.e_shoff == 0 || header.e_shentsize != sizeof(Elf64_Shdr)) return library;
  const auto section = [&](std::uint64_t index) {
    if (index >= header.e_shnum) throw std::invalid_argument("is damaged: a section that it names is not there");
    return reader.At<Elf64_Shdr>(header.e_shoff + index * sizeof(Elf64_Shdr));
  };
  for (std::uint64_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr table = section(i);
    if (table.sh_type == SHT_DYNAMIC) {
      const Elf64_Shdr names = section(table.sh_link);
      for (std::uint64_t at = 0; at + sizeof(Elf64_Dyn) <= table.sh_size; at += sizeof(Elf64_Dyn)) {
        const auto entry = reader.At<Elf64_Dyn>(table.sh_offset + at);
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_NEEDED) library.needed.push_back(reader.Text(names, entry.d_un.d_val));
      }
    } else if (table.sh_type == SHT_DYNSYM) {
      const Elf64_Shdr names = section(table.sh_link);
      for (std::uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.sh_size; at += sizeof(Elf64_Sym)) {
        const auto symbol = reader.At<Elf64_Sym>(table.sh_offset + at);
        if (symbol.st_shndx != SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL) continue;
        library.undefined.push_back(reader.Text(names, symbol.st_name));
      }
    }
  }
  return library;
}

}  // namespace kernels::internal
