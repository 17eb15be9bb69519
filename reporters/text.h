// Text for people: numbers, tables, and what a terminal may be sent.
#ifndef REPORTERS_TEXT_H_
#define REPORTERS_TEXT_H_

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace reporters {

std::string FormatScientific(double value);                 // "1.23e-05", "0"
std::string FormatScientific(std::optional<double> value);  // "-" if nothing
std::string FormatPercent(double fraction);                 // 0.1459 -> "14.6 %"
std::string FormatSeconds(double seconds);                  // "0.152 s", "12.4 s", "3 min 5 s"

// Bytes that are not UTF-8 (RFC 3629: overlong forms, surrogates and values
// above U+10FFFF included) are replaced by U+FFFD, one for each maximal
// ill-formed part as in Unicode 15, section 3.9.
std::string ValidUtf8(std::string_view text);

// ValidUtf8() without control characters (a line break or a tab becomes a
// space, the others '?'): safe in one line of a terminal or a log.
std::string OneLine(std::string_view text);

// Columns on a terminal, one for each code point.
std::size_t DisplayWidth(std::string_view utf8);

// Cut to `width` columns; what is cut is marked by an ellipsis.
std::string Elide(std::string_view utf8, std::size_t width);

enum class Color { kNone, kGreen, kRed, kYellow, kBold };

struct ConsoleStyle {
  bool terminal = false;  // may be sent "\r" and is watched by a person
  bool color = false;
};
// Of a file descriptor: no color unless it is a terminal other than "dumb" and
// NO_COLOR (no-color.org) is unset or empty.
ConsoleStyle DetectConsole(int fd);

std::string Paint(std::string_view text, Color color, const ConsoleStyle& style);

// Columns padded to their widest cell, two spaces between.
class Table {
 public:
  struct Cell {
    std::string text;
    Color color = Color::kNone;
  };
  enum class Align { kLeft, kRight };
  // A title for each column, and how its cells are aligned.
  Table(std::vector<std::string> titles, std::vector<Align> align);
  // Fewer cells than columns leave the rest empty; more throw
  // std::invalid_argument. `below` lines follow the row, indented.
  void AddRow(std::vector<Cell> cells, std::vector<std::string> below = {});
  std::size_t Width() const;
  void Write(std::ostream& out, const ConsoleStyle& style) const;

 private:
  struct Row {
    std::vector<Cell> cells;
    std::vector<std::string> below;
  };
  std::vector<std::size_t> Widths() const;
  std::vector<std::string> titles_;
  std::vector<Align> align_;
  std::vector<Row> rows_;
};

}  // namespace reporters

#endif  // REPORTERS_TEXT_H_
