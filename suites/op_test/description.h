// A test of any torch operator, described in JSON. docs/op_descriptions.md is
// the format; this is what is read from it.
#ifndef SUITES_OP_TEST_DESCRIPTION_H_
#define SUITES_OP_TEST_DESCRIPTION_H_

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace suites::op_test {

// One line: the file, the key in it, what is wrong.
class DescriptionError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A place in a description: its JSON and how to name it, "F.json: values.x.shape[1]".
class Node {
 public:
  Node(nlohmann::json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {}

  const nlohmann::json& json() const { return json_; }
  const std::string& where() const { return where_; }
  [[noreturn]] void Fail(const std::string& what) const;

  bool Has(std::string_view key) const { return json_.is_object() && json_.contains(key); }
  // The entry of an object or a list. Fails where there is none.
  Node At(std::string_view key) const;
  Node At(std::size_t index) const;
  // An object with these keys only.
  void ExpectKeys(const std::vector<std::string_view>& known) const;
  std::size_t ListSize() const;  // fails where it is no list

  std::string String() const;
  std::string OneOf(const std::vector<std::string_view>& words) const;
  bool Bool() const;
  std::int64_t Integer(std::int64_t least, std::int64_t most) const;
  double Number() const;

 private:
  nlohmann::json json_;
  std::string where_;
};

enum class Expectation { kBitExact, kNondeterministic, kAny };

// One claim about the operator, of one description and one choice of its parameters.
struct OpTest {
  std::string suite;  // the description's name
  std::string name;   // "run_to_run/m_1_n_256"
  std::string op;     // "aten::mm"
  std::string overload;
  std::string device;                      // "cpu", "cuda", "cuda:1"
  Node values{nullptr, ""};                // an object of named values; null if there are none
  Node arguments{nullptr, ""};             // a list, or an object by the schema's names
  Node compare{nullptr, ""};               // a list of results and arguments; null: all that is written
  std::optional<int> runs = std::nullopt;  // unset: --determinism_runs
  int warmups = 0;
  std::optional<std::vector<std::string>> perturbations = std::nullopt;  // unset: the defaults
  bool deterministic_algorithms = false;
  Expectation expect = Expectation::kBitExact;
};

// All tests of a file. Checks everything that does not depend on the operator's
// schema. Throws DescriptionError, or CheckpointError where it is no JSON.
std::vector<OpTest> ReadDescription(const std::filesystem::path& file);

}  // namespace suites::op_test

#endif  // SUITES_OP_TEST_DESCRIPTION_H_
