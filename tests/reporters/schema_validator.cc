#include "tests/reporters/schema_validator.h"

#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "tests/reporters/golden.h"

namespace reporters {
namespace {

const valijson::Schema& InvestigationSchema() {
  static const valijson::Schema* const schema = [] {
    const auto json = nlohmann::json::parse(
        ReadAll(std::string(REPORTERS_SOURCE_DIR) + "/reporters/schema/investigation.schema.json"));
    auto* parsed = new valijson::Schema;
    valijson::SchemaParser(valijson::SchemaParser::kDraft7)
        .populateSchema(valijson::adapters::NlohmannJsonAdapter(json), *parsed);
    return parsed;
  }();
  return *schema;
}

}  // namespace

std::string SchemaErrors(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  // Strict: the string "1" is no number.
  valijson::Validator validator(valijson::Validator::kStrongTypes);
  valijson::ValidationResults results;
  if (validator.validate(InvestigationSchema(), valijson::adapters::NlohmannJsonAdapter(json), &results)) return "";
  std::string errors = "invalid";
  valijson::ValidationResults::Error error;
  while (results.popError(error)) {
    errors += "\n";
    for (const std::string& part : error.context) errors += part;
    errors += ": " + error.description;
  }
  return errors;
}

}  // namespace reporters
