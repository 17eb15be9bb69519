#ifndef TESTS_REPORTERS_SCHEMA_VALIDATOR_H_
#define TESTS_REPORTERS_SCHEMA_VALIDATOR_H_

#include <nlohmann/json.hpp>
#include <string>

namespace reporters {

// "" where `text` satisfies reporters/schema/investigation.schema.json, else
// the errors.
std::string SchemaErrors(const std::string& text);

}  // namespace reporters

#endif  // TESTS_REPORTERS_SCHEMA_VALIDATOR_H_
