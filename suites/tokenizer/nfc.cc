// Normalization form C as Hugging Face tokenizers give it: that of Unicode 9.
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "suites/tokenizer/utf8.h"

namespace suites {
namespace {

using Codepoint = utf8proc_int32_t;

// Marks and composites that came after Unicode 9 (up to 18). tokenizers 0.23 has
// the tables of Unicode 9, so that to it a later mark is no mark; the ids of a
// model follow that, whatever Unicode utf8proc knows.
constexpr std::array<std::pair<Codepoint, Codepoint>, 63> kAfterUnicode9 = {{
    {0x05c8, 0x05c9},   {0x07fd, 0x07fd},   {0x0897, 0x089f},   {0x08ca, 0x08d3},   {0x09fe, 0x09fe},
    {0x0c3c, 0x0c3c},   {0x0d3b, 0x0d3c},   {0x0eba, 0x0eba},   {0x1715, 0x1715},   {0x1abf, 0x1af0},
    {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0x105c9, 0x105c9}, {0x105e4, 0x105e4}, {0x10d24, 0x10d27},
    {0x10d69, 0x10d6d}, {0x10eab, 0x10eac}, {0x10ecb, 0x10ecf}, {0x10ef0, 0x10efb}, {0x10efd, 0x10eff},
    {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x11383, 0x11383},
    {0x11385, 0x11385}, {0x1138e, 0x1138e}, {0x11391, 0x11391}, {0x113c5, 0x113c5}, {0x113c7, 0x113c8},
    {0x113ce, 0x113d0}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938}, {0x1193d, 0x1193e},
    {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99},
    {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16121, 0x16128},
    {0x1612f, 0x1612f}, {0x16d68, 0x16d6a}, {0x16ff0, 0x16ff1}, {0x1d127, 0x1d128}, {0x1d250, 0x1d252},
    {0x1d25b, 0x1d25c}, {0x1d25f, 0x1d25f}, {0x1d280, 0x1d281}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136},
    {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef}, {0x1e6e3, 0x1e6e3},
    {0x1e6e6, 0x1e6e6}, {0x1e6ee, 0x1e6ef}, {0x1e6f5, 0x1e6f5},
}};

bool Unknown(Codepoint c) {
  if (c < kAfterUnicode9.front().first) return false;
  const auto* const range = std::lower_bound(kAfterUnicode9.begin(), kAfterUnicode9.end(), c,
                                             [](const auto& r, Codepoint value) { return r.second < value; });
  return range != kAfterUnicode9.end() && range->first <= c;
}

int CombiningClass(Codepoint c) {
  const int combining_class = utf8proc_get_property(c)->combining_class;
  return combining_class != 0 && Unknown(c) ? 0 : combining_class;
}

// Canonical decomposition, marks not yet in order.
std::vector<Codepoint> Decompose(std::string_view text) {
  std::vector<Codepoint> codepoints;
  codepoints.reserve(text.size());
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    Codepoint codepoint = 0;
    const utf8proc_ssize_t length =
        utf8proc_iterate(bytes + i, static_cast<utf8proc_ssize_t>(text.size() - i), &codepoint);
    if (length <= 0) throw std::invalid_argument("text is not UTF-8 at byte " + std::to_string(i));
    i += static_cast<std::size_t>(length);
    if (Unknown(codepoint)) {
      codepoints.push_back(codepoint);
      continue;
    }
    // Four codepoints are the longest canonical decomposition (UAX #15, table 7).
    std::array<Codepoint, 8> parts;
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(codepoint, parts.data(), parts.size(),
                                static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE), &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      throw std::invalid_argument(std::string("text cannot be normalized: ") + utf8proc_errmsg(count));
    }
    codepoints.insert(codepoints.end(), parts.begin(), parts.begin() + count);
  }
  return codepoints;
}

// Canonical ordering (Unicode 15, D109). utf8proc's own, in utf8proc_map(), is
// quadratic in the length of a run of marks.
void OrderMarks(std::vector<Codepoint>* codepoints) {
  for (auto begin = codepoints->begin(); begin != codepoints->end();) {
    if (CombiningClass(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, codepoints->end(), [](Codepoint c) { return CombiningClass(c) == 0; });
    std::stable_sort(begin, end, [](Codepoint a, Codepoint b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
}

std::optional<Codepoint> Composite(Codepoint first, Codepoint second) {
  if (first < 0x3c || second < 0x300) return std::nullopt;  // nothing composes with less
  std::array<Codepoint, 2> pair = {first, second};
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(pair.data(), 2, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (count != 1 || Unknown(pair[0])) return std::nullopt;
  return pair[0];
}

// Canonical composition (Unicode 15, D117), in place.
void Compose(std::vector<Codepoint>* codepoints) {
  std::size_t size = 0;            // of what is done
  std::size_t starter = SIZE_MAX;  // the last one, where it lies
  int last = 0;                    // combining class of what lies before, behind the starter
  for (const Codepoint c : *codepoints) {
    const int combining_class = CombiningClass(c);
    const bool adjacent = starter != SIZE_MAX && starter + 1 == size;
    if (starter != SIZE_MAX && (adjacent || last < combining_class)) {
      if (const auto composite = Composite((*codepoints)[starter], c)) {
        (*codepoints)[starter] = *composite;
        continue;
      }
    }
    if (combining_class == 0) starter = size;
    last = combining_class;
    (*codepoints)[size++] = c;
  }
  codepoints->resize(size);
}

}  // namespace

std::string ToNfc(std::string_view text) {
  // Text of ASCII and Latin-1 letters (below U+0300, in UTF-8 bytes below 0xcc)
  // is in NFC already: nothing in it composes with its neighbour.
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0xcc; })) {
    return std::string(text);
  }
  std::vector<Codepoint> codepoints = Decompose(text);
  OrderMarks(&codepoints);
  Compose(&codepoints);
  std::string out;
  out.reserve(text.size());
  for (const Codepoint c : codepoints) {
    std::array<utf8proc_uint8_t, 4> bytes;
    const utf8proc_ssize_t length = utf8proc_encode_char(c, bytes.data());
    out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(length));
  }
  return out;
}

}  // namespace suites
