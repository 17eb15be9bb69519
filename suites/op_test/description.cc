#include "suites/op_test/description.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/op_test/perturbation_names.h"

namespace suites::op_test {
namespace {

using nlohmann::json;

std::string Listed(const std::vector<std::string_view>& words) {
  std::string text;
  for (const std::string_view word : words) text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

bool IsName(const std::string& text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

std::string NameAt(const Node& node) {
  std::string name = node.String();
  if (!IsName(name)) node.Fail(Quoted(name) + " is not a name: letters, digits and _ only");
  return name;
}

// One choice of values for the parameters.
using Choice = json;

std::vector<Choice> Choices(const Node& root) {
  std::vector<Choice> choices = {json::object()};
  if (!root.Has("parameters")) return choices;
  const Node parameters = root.At("parameters");
  if (!parameters.json().is_object()) parameters.Fail("must be an object of lists");
  for (const auto& [name, list] : parameters.json().items()) {
    const Node values = parameters.At(name);
    if (!IsName(name)) values.Fail("is not a name: letters, digits and _ only");
    if (values.ListSize() == 0) values.Fail("is empty: that leaves nothing to test");
    std::vector<Choice> longer;
    for (const Choice& choice : choices) {
      for (std::size_t i = 0; i < values.ListSize(); ++i) {
        if (!list[i].is_primitive() || list[i].is_null()) values.At(i).Fail("must be a number, a string or a boolean");
        longer.push_back(choice);
        longer.back()[name] = list[i];
      }
    }
    constexpr std::size_t kMostTests = 10000;
    if (longer.size() > kMostTests) parameters.Fail("gives more than 10000 tests");
    choices = std::move(longer);
  }
  return choices;
}

// Every string "$name" replaced by the parameter's value.
void Substitute(json& value, const Choice& choice, const std::string& where) {
  if (value.is_string() && value.get_ref<const std::string&>().starts_with('$')) {
    const std::string name = value.get<std::string>().substr(1);
    if (!choice.contains(name)) throw DescriptionError(where + ": there is no parameter " + Quoted(name));
    value = choice[name];
  } else if (value.is_object()) {
    for (auto& [key, entry] : value.items()) Substitute(entry, choice, where + "." + key);
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      Substitute(value[i], choice, where + "[" + std::to_string(i) + "]");
    }
  }
}

std::string Suffix(const Choice& choice) {
  std::string suffix;
  for (const auto& [name, value] : choice.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    for (char& c : text) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
    }
    suffix += (suffix.empty() ? "/" : "_") + name + "_" + text;
  }
  return suffix;
}

Expectation ExpectationOf(const Node& node) {
  const std::string word = node.OneOf({"bit_exact", "nondeterministic", "any"});
  if (word == "any") return Expectation::kAny;
  return word == "bit_exact" ? Expectation::kBitExact : Expectation::kNondeterministic;
}

void ReadTest(const Node& node, OpTest& test) {
  node.ExpectKeys({"name", "property", "runs", "warmups", "perturbations", "deterministic_algorithms", "expect"});
  const std::string property = node.At("property").OneOf({"run_to_run"});
  test.name = node.Has("name") ? NameAt(node.At("name")) : property;
  if (node.Has("runs")) test.runs = static_cast<int>(node.At("runs").Integer(2, 1000000));
  if (node.Has("warmups")) test.warmups = static_cast<int>(node.At("warmups").Integer(0, 1000));
  if (node.Has("perturbations")) {
    const Node names = node.At("perturbations");
    test.perturbations.emplace();
    for (std::size_t i = 0; i < names.ListSize(); ++i) {
      const std::vector<std::string_view> known = PerturbationNames();
      test.perturbations->push_back(names.At(i).OneOf(known));
    }
  }
  if (node.Has("deterministic_algorithms")) {
    test.deterministic_algorithms = node.At("deterministic_algorithms").Bool();
  }
  test.expect = ExpectationOf(node.At("expect"));
}

}  // namespace

void Node::Fail(const std::string& what) const { throw DescriptionError(where_ + ": " + what); }

Node Node::At(std::string_view key) const {
  if (!json_.is_object()) Fail("must be an object");
  const auto found = json_.find(key);
  if (found == json_.end()) Fail("lacks '" + std::string(key) + "'");
  const bool top = where_.find(": ") == std::string::npos;  // the file itself
  return {*found, where_ + (top ? ": " : ".") + std::string(key)};
}

Node Node::At(std::size_t index) const {
  if (index >= ListSize()) Fail("lacks entry " + std::to_string(index));
  return {json_[index], where_ + "[" + std::to_string(index) + "]"};
}

void Node::ExpectKeys(const std::vector<std::string_view>& known) const {
  if (!json_.is_object()) Fail("must be an object");
  for (const auto& [key, value] : json_.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      Fail("unknown key " + Quoted(key) + "; known are " + Listed(known));
    }
  }
}

std::size_t Node::ListSize() const {
  if (!json_.is_array()) Fail("must be a list");
  return json_.size();
}

std::string Node::String() const {
  if (!json_.is_string()) Fail("must be a string");
  return json_.get<std::string>();
}

std::string Node::OneOf(const std::vector<std::string_view>& words) const {
  const std::string word = String();
  if (std::find(words.begin(), words.end(), word) == words.end()) {
    Fail(Quoted(word) + " is not one of " + Listed(words));
  }
  return word;
}

bool Node::Bool() const {
  if (!json_.is_boolean()) Fail("must be true or false");
  return json_.get<bool>();
}

std::int64_t Node::Integer(std::int64_t least, std::int64_t most) const {
  const bool fits = json_.is_number_integer() &&
                    !(json_.is_number_unsigned() && json_.get<std::uint64_t>() > std::uint64_t{INT64_MAX});
  if (!fits || json_.get<std::int64_t>() < least || json_.get<std::int64_t>() > most) {
    Fail("must be an integer from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return json_.get<std::int64_t>();
}

double Node::Number() const {
  if (!json_.is_number()) Fail("must be a number");
  return json_.get<double>();
}

std::vector<OpTest> ReadDescription(const std::filesystem::path& file) {
  const Node written(ReadJsonFile(file), file.string());
  written.ExpectKeys({"schema_version", "name", "comment", "op", "overload", "device", "parameters", "values",
                      "arguments", "compare", "tests"});
  written.At("schema_version").Integer(1, 1);
  const std::vector<Choice> choices = Choices(written);
  if (written.At("tests").ListSize() == 0) written.At("tests").Fail("is empty: that leaves nothing to test");

  std::vector<OpTest> tests;
  std::set<std::string> names;
  for (const Choice& choice : choices) {
    json chosen = written.json();
    chosen.erase("parameters");
    for (auto& [key, value] : chosen.items()) Substitute(value, choice, file.string() + ": " + key);
    const Node root(std::move(chosen), file.string());
    OpTest common;
    common.suite = NameAt(root.At("name"));
    common.op = root.At("op").String();
    if (common.op.find("::") == std::string::npos) root.At("op").Fail("must be namespace::name");
    if (root.Has("overload")) common.overload = root.At("overload").String();
    common.device = root.Has("device") ? root.At("device").String() : "cpu";
    if (common.device != "cpu" && common.device != "cuda" && !common.device.starts_with("cuda:")) {
      root.At("device").Fail(Quoted(common.device) + " is not cpu, cuda or cuda:N");
    }
    if (root.Has("values")) {
      common.values = root.At("values");
      if (!common.values.json().is_object()) common.values.Fail("must be an object");
    }
    common.arguments = root.At("arguments");
    if (!common.arguments.json().is_object()) common.arguments.ListSize();
    if (root.Has("compare")) {
      common.compare = root.At("compare");
      if (common.compare.ListSize() == 0) common.compare.Fail("is empty: that leaves nothing to compare");
    }
    for (std::size_t i = 0; i < root.At("tests").ListSize(); ++i) {
      OpTest test = common;
      ReadTest(root.At("tests").At(i), test);
      test.name += Suffix(choice);
      if (!names.insert(test.name).second) {
        root.At("tests").At(i).Fail("a second test of the name " + test.name + "; give it another \"name\"");
      }
      tests.push_back(std::move(test));
    }
  }
  return tests;
}

}  // namespace suites::op_test
