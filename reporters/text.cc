#include "reporters/text.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ostream>
#include <stdexcept>
#include <utility>

namespace reporters {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::string_view kEllipsis = "\xE2\x80\xA6";     // U+2026

template <typename... Args>
std::string Printf(const char* format, Args... args) {
  char buffer[128];
  std::snprintf(buffer, sizeof(buffer), format, args...);
  return buffer;
}

// Length of the well-formed sequence at the start of `text`; 0 if there is
// none, and then `*ill_formed` is the length of the maximal ill-formed part.
std::size_t SequenceLength(std::string_view text, std::size_t* ill_formed) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  *ill_formed = 1;
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  std::size_t length;
  // Bounds of the second byte exclude overlong forms, surrogates and values
  // above U+10FFFF (Unicode 15, table 3-7).
  std::uint8_t low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) {
      *ill_formed = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

std::string FormatScientific(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  if (value == 0) return "0";
  return Printf("%.2e", value);
}

std::string FormatScientific(std::optional<double> value) { return value ? FormatScientific(*value) : "-"; }

std::string FormatPercent(double fraction) {
  const double percent = 100 * fraction;
  if (percent != 0 && std::abs(percent) < 0.1) return Printf("%.2g %%", percent);
  return Printf("%.1f %%", percent);
}

std::string FormatSeconds(double seconds) {
  if (!(seconds >= 0)) return "-";
  if (seconds < 10) return Printf("%.3f s", seconds);
  if (seconds < 120) return Printf("%.1f s", seconds);
  if (seconds < 1e9) {
    const auto whole = static_cast<long long>(std::llround(seconds));
    return Printf("%lld min %lld s", whole / 60, whole % 60);
  }
  return Printf("%.3g s", seconds);
}

std::string ValidUtf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    std::size_t ill_formed = 0;
    const std::size_t length = SequenceLength(text, &ill_formed);
    if (length > 0) {
      result.append(text.substr(0, length));
      text.remove_prefix(length);
    } else {
      result.append(kReplacement);
      text.remove_prefix(ill_formed);
    }
  }
  return result;
}

std::string OneLine(std::string_view text) {
  const std::string valid = ValidUtf8(text);
  std::string result;
  result.reserve(valid.size());
  for (std::size_t i = 0; i < valid.size(); ++i) {
    const auto c = static_cast<unsigned char>(valid[i]);
    if (c == '\n' || c == '\t' || c == '\r') {
      result += ' ';
    } else if (c < 0x20 || c == 0x7F) {
      result += '?';
    } else if (c == 0xC2 && i + 1 < valid.size() && static_cast<unsigned char>(valid[i + 1]) < 0xA0) {
      result += '?';  // C1 controls; U+009B begins an escape sequence on some terminals
      ++i;
    } else {
      result += valid[i];
    }
  }
  return result;
}

std::size_t DisplayWidth(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string Elide(std::string_view utf8, std::size_t width) {
  if (DisplayWidth(utf8) <= width) return std::string(utf8);
  if (width == 0) return "";
  std::size_t end = 0, columns = 0;
  while (end < utf8.size()) {
    if ((static_cast<unsigned char>(utf8[end]) & 0xC0) != 0x80 && ++columns == width) break;
    ++end;
  }
  return std::string(utf8.substr(0, end)).append(kEllipsis);
}

ConsoleStyle DetectConsole(int fd) {
  ConsoleStyle style;
  const char* term = std::getenv("TERM");
  style.terminal = isatty(fd) == 1 && term != nullptr && std::string_view(term) != "dumb";
  const char* no_color = std::getenv("NO_COLOR");
  style.color = style.terminal && (no_color == nullptr || *no_color == '\0');
  return style;
}

std::string Paint(std::string_view text, Color color, const ConsoleStyle& style) {
  if (!style.color || color == Color::kNone || text.empty()) return std::string(text);
  const char* code = color == Color::kGreen ? "32" : color == Color::kRed ? "31" : color == Color::kYellow ? "33" : "1";
  std::string painted = "\x1b[";
  painted.append(code).append("m").append(text).append("\x1b[0m");
  return painted;
}

Table::Table(std::vector<std::string> titles, std::vector<Align> align)
    : titles_(std::move(titles)), align_(std::move(align)) {
  align_.resize(titles_.size(), Align::kLeft);
}

void Table::AddRow(std::vector<Cell> cells, std::vector<std::string> below) {
  if (cells.size() > titles_.size()) throw std::invalid_argument("a row of a table has more cells than columns");
  cells.resize(titles_.size());
  rows_.push_back({std::move(cells), std::move(below)});
}

std::vector<std::size_t> Table::Widths() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < titles_.size(); ++i) {
    std::size_t width = DisplayWidth(titles_[i]);
    for (const Row& row : rows_) width = std::max(width, DisplayWidth(row.cells[i].text));
    widths.push_back(width);
  }
  return widths;
}

std::size_t Table::Width() const {
  const std::vector<std::size_t> widths = Widths();
  std::size_t total = widths.empty() ? 0 : 2 * (widths.size() - 1);
  for (std::size_t width : widths) total += width;
  return total;
}

void Table::Write(std::ostream& out, const ConsoleStyle& style) const {
  const std::vector<std::size_t> widths = Widths();
  const auto write_row = [&](const std::vector<Cell>& cells) {
    std::string line, pending;  // `pending`: spaces that a last cell must not leave behind
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - DisplayWidth(cells[i].text), ' ');
      if (align_[i] == Align::kRight) pending += padding;
      if (!cells[i].text.empty()) {
        line += pending + Paint(cells[i].text, cells[i].color, style);
        pending.clear();
      }
      if (align_[i] == Align::kLeft) pending += padding;
      pending += "  ";
    }
    out << line << '\n';
  };
  std::vector<Cell> head;
  for (const std::string& title : titles_) head.push_back({title, Color::kBold});
  write_row(head);
  for (const Row& row : rows_) {
    write_row(row.cells);
    for (const std::string& line : row.below) out << "  " << line << '\n';
  }
}

}  // namespace reporters
