// How JSON is laid out in files. Internal to reporters/: nlohmann/json stays
// out of the public headers.
#ifndef REPORTERS_JSON_TEXT_H_
#define REPORTERS_JSON_TEXT_H_

#include <nlohmann/json.hpp>
#include <string>

namespace reporters {

// Objects and arrays of containers by line, indented by two; arrays of scalars
// on one line, so that a row of tokens is a row. Text that is not UTF-8 gets
// U+FFFD, numbers are the shortest that read back to the same double, NaN and
// infinity are null. No line break at the end.
std::string PrettyJson(const nlohmann::ordered_json& value);

// On one line.
std::string CompactJson(const nlohmann::ordered_json& value);

}  // namespace reporters

#endif  // REPORTERS_JSON_TEXT_H_
