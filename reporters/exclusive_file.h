// Result files that appear whole or not at all, and never replace another.
#ifndef REPORTERS_EXCLUSIVE_FILE_H_
#define REPORTERS_EXCLUSIVE_FILE_H_

#include <filesystem>
#include <string>
#include <string_view>

namespace reporters {

// Creates DIR/STEM EXTENSION with `content`. It is written without a name in
// DIR (O_TMPFILE; where the file system has none, under a hidden name, the only
// thing that a killed process can leave), fsync'd, and linked to the first free
// name of STEM, STEM_2, STEM_3, ...; linkat(2) fails where the name exists, so
// that of two processes each gets its own. Characters of `stem` other than letters, digits,
// '-', '_' and '.' become '_'. Makes DIR where it is missing.
// Throws std::runtime_error, one line with the path and the reason, and then
// leaves neither the file nor the temporary one.
std::filesystem::path CreateExclusively(const std::filesystem::path& directory, std::string_view stem,
                                        std::string_view extension, std::string_view content);

// "20250115_103000" from "2025-01-15T10:30:00.123456"; of the current local
// time where `iso8601` is not of that form.
std::string CompactTime(std::string_view iso8601);

// Local time as Python's datetime.now().isoformat(), with microseconds.
std::string IsoTimeNow();

}  // namespace reporters

#endif  // REPORTERS_EXCLUSIVE_FILE_H_
