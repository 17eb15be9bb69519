// What a description may say, and what is said where it is wrong.
#include "suites/op_test/description.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "suites/op_test/op_call.h"
#include "suites/op_test/perturbation_names.h"
#include "suites/op_test/quantized_weight.h"
#include "tests/support/temporary_folder.h"

namespace suites::op_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

const char kText[] = R"({
  "schema_version": 1, "name": "mm", "op": "aten::mm",
  "parameters": {"m": [1, 3], "expect": ["bit_exact", "any"]},
  "values": {
    "x": {"random": "normal", "shape": ["$m", 8], "dtype": "float32", "seed": 1},
    "w": {"random": "uniform", "low": 0, "high": 2, "shape": [8, 4], "dtype": "float32", "seed": 2}
  },
  "arguments": [{"value": "x"}, {"value": "w"}],
  "tests": [{"property": "run_to_run", "runs": 5, "expect": "$expect"}]
})";

// The description with one place replaced: "/values/x/seed".
json With(const std::string& pointer, const json& value) {
  json description = json::parse(kText);
  description[json::json_pointer(pointer)] = value;
  return description;
}

// Each test is a process of its own, and several run at a time.
const fs::path& Folder() {
  static const test_support::TemporaryFolder folder;
  return folder.path();
}

std::vector<OpTest> Read(const json& description) {
  const fs::path file = Folder() / "description.json";
  std::ofstream(file) << description.dump();
  return ReadDescription(file);
}

// What is said of it when it is read, or when its operator is called, without the folder.
std::string Refusal(const json& description) {
  std::string text = "not refused";
  try {
    const std::vector<OpTest> tests = Read(description);
    OpCall(tests.at(0)).Run();
  } catch (const std::exception& error) {
    text = error.what();
  }
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  const std::string folder = Folder().string();
  if (const std::size_t at = text.find(folder); at != std::string::npos) text.erase(at, folder.size());
  if (text.starts_with("/")) text.erase(0, 1);
  return text;
}

TEST(Description, EveryChoiceOfItsParametersIsATest) {
  const std::vector<OpTest> tests = Read(json::parse(kText));
  ASSERT_EQ(tests.size(), 4u);
  std::vector<std::string> names;
  for (const OpTest& test : tests) names.push_back(test.suite + "." + test.name);
  EXPECT_THAT(names,
              testing::UnorderedElementsAre("mm.run_to_run/expect_bit_exact_m_1", "mm.run_to_run/expect_bit_exact_m_3",
                                            "mm.run_to_run/expect_any_m_1", "mm.run_to_run/expect_any_m_3"));
  for (const OpTest& test : tests) {
    EXPECT_EQ(test.runs, 5);
    EXPECT_EQ(test.device, "cpu");
    EXPECT_EQ(test.expect == Expectation::kAny, test.name.find("any") != std::string::npos);
    const std::int64_t rows = test.name.ends_with("m_1") ? 1 : 3;
    EXPECT_EQ(OpCall(test).Run().tensors.at(0).second.size(0), rows);
  }
}

TEST(Description, SaysWhichKeyIsWrong) {
  EXPECT_THAT(Refusal(With("/sheme", 1)), HasSubstr("description.json: unknown key 'sheme'; known are schema_version"));
  EXPECT_EQ(Refusal(With("/schema_version", 2)), "description.json: schema_version: must be an integer from 1 to 1");
  EXPECT_EQ(Refusal(With("/name", "a b")), "description.json: name: 'a b' is not a name: letters, digits and _ only");
  EXPECT_EQ(Refusal(With("/op", "mm")), "description.json: op: must be namespace::name");
  EXPECT_EQ(Refusal(With("/device", "tpu")), "description.json: device: 'tpu' is not cpu, cuda or cuda:N");
  EXPECT_EQ(Refusal(With("/parameters/m", json::array())),
            "description.json: parameters.m: is empty: that leaves nothing to test");
  EXPECT_EQ(Refusal(With("/values/x/shape/0", "$n")), "description.json: values.x.shape[0]: there is no parameter 'n'");
  EXPECT_EQ(Refusal(With("/tests", json::array())), "description.json: tests: is empty: that leaves nothing to test");
  EXPECT_EQ(Refusal(With("/tests/0/runs", 1)), "description.json: tests[0].runs: must be an integer from 2 to 1000000");
  EXPECT_EQ(Refusal(With("/tests/0/expect", "exact")),
            "description.json: tests[0].expect: 'exact' is not one of bit_exact, nondeterministic, any");
  EXPECT_EQ(Refusal(With("/tests/0/property", "batch")),
            "description.json: tests[0].property: 'batch' is not one of run_to_run");
  EXPECT_THAT(
      Refusal(With("/tests/0/perturbations", {"earthquake"})),
      HasSubstr(
          "tests[0].perturbations[0]: 'earthquake' is not one of allocator_poison, competing_load, sm_contention"));
  json twice = json::parse(kText);
  twice["tests"].push_back(twice["tests"][0]);
  EXPECT_THAT(Refusal(twice), HasSubstr("tests[1]: a second test of the name run_to_run"));
  json lacks = json::parse(kText);
  lacks.erase("arguments");
  EXPECT_EQ(Refusal(lacks), "description.json: lacks 'arguments'");
}

TEST(Description, SaysWhichValueIsWrong) {
  EXPECT_EQ(Refusal(With("/values/x/dtype", "float")),
            "description.json: values.x.dtype: 'float' is not one of float16, bfloat16, float32, float64, int8, "
            "uint8, int16, int32, int64, bool");
  EXPECT_THAT(Refusal(With("/values/x/low", 1)), HasSubstr("values.x: unknown key 'low'"));
  EXPECT_THAT(Refusal(With("/values/x/random", "gaussian")), HasSubstr("'gaussian' is not one of normal, uniform"));
  EXPECT_THAT(Refusal(With("/values/x/shape", {1 << 20, 1 << 20})), EndsWith("has more than 2^34 elements"));
  EXPECT_EQ(Refusal(With("/values/x", {{"value", "x"}})), "description.json: values.x: is made of itself");
  EXPECT_THAT(Refusal(With("/values/x", {{"shape", {1}}})), HasSubstr("values.x: is no tensor: give one of"));
  EXPECT_EQ(Refusal(With("/values/x", {{"data", {1, 2}}, {"shape", {3}}, {"dtype", "int32"}})),
            "description.json: values.x.data: has 2 numbers, but the shape has 3");
  EXPECT_EQ(Refusal(With("/values/x", {{"quantized", "awq"}, {"k", 8}, {"n", 8}, {"seed", 1}})),
            "description.json: arguments[0]: 'x' is a quantized weight; take a {\"part\": ..., \"of\": ...} of it");
  const auto part = [](const char* name, const json& weight) {
    json description = With("/arguments/0", {{"part", name}, {"of", "weight"}});
    description["values"]["weight"] = weight;
    return Refusal(description);
  };
  const json awq = {{"quantized", "awq"}, {"k", 128}, {"n", 8}, {"seed", 1}};
  EXPECT_EQ(part("g_idx", awq), "description.json: arguments[0]: a weight of the format awq has no g_idx");
  EXPECT_EQ(part("marlin_scales", awq),
            "description.json: arguments[0]: Marlin's order needs N to be a multiple of 64");
  EXPECT_THAT(part("qweights", awq), HasSubstr("arguments[0].part: 'qweights' is not one of qweight"));
  json wrong = awq;
  wrong["k"] = 120;
  EXPECT_THAT(part("qweight", wrong), HasSubstr("values.weight: k must be a multiple of group_size"));
}

TEST(Description, SaysWhichArgumentIsWrong) {
  EXPECT_EQ(Refusal(With("/arguments/1", 4)), "description.json: arguments[1]: the argument mat2 is a Tensor");
  EXPECT_EQ(Refusal(With("/arguments/1/value", "y")), "description.json: arguments[1]: there is no value 'y'");
  EXPECT_EQ(
      Refusal(With("/arguments/2", 1)),
      "description.json: arguments: gives 3 arguments, too many for aten::mm(Tensor self, Tensor mat2) -> Tensor");
  EXPECT_EQ(Refusal(With("/arguments", {{"self", {{"value", "x"}}}})),
            "description.json: arguments: lacks mat2 of aten::mm(Tensor self, Tensor mat2) -> Tensor");
  EXPECT_EQ(Refusal(With("/arguments", {{"mat3", {{"value", "x"}}}})),
            "description.json: arguments.mat3: there is no argument of that name: aten::mm(Tensor self, Tensor mat2) "
            "-> Tensor");
  EXPECT_EQ(Refusal(With("/compare", {1})),
            "description.json: compare[0]: there is no result 1 of aten::mm(Tensor self, Tensor mat2) -> Tensor");
  EXPECT_EQ(Refusal(With("/compare", {"self"})),
            "description.json: compare[0]: self is not written to by aten::mm(Tensor self, Tensor mat2) -> Tensor");
  EXPECT_EQ(Refusal(With("/overload", "nosuch")),
            "operator aten::mm has no overload \"nosuch\"; it has \"\", \"dtype\", \"dtype_out\", \"out\"");
}

OpResults Call(const std::string& op, const std::string& overload, const json& arguments, const json& values = {}) {
  json description = json::parse(kText);
  description.erase("parameters");
  description["tests"][0]["expect"] = "any";
  description["op"] = op;
  description["overload"] = overload;
  description["arguments"] = arguments;
  description["values"] = values.is_null() ? json::object() : values;
  return OpCall(Read(description).at(0)).Run();
}

TEST(OpCall, ConvertsEveryKindOfArgument) {
  const json x = {{"data", {1, 2, 3, 4, 5, 6}}, {"shape", {2, 3}}, {"dtype", "float32"}};
  // int[]?, bool and a default; dtype by name.
  const at::Tensor sum = Call("aten::sum", "dim_IntList", {x, {1}, true, "float64"}).tensors.at(0).second;
  EXPECT_EQ(sum.sizes(), at::IntArrayRef({2, 1}));
  EXPECT_EQ(sum.scalar_type(), at::kDouble);
  EXPECT_EQ(Call("aten::sum", "dim_IntList", {x, nullptr}).tensors.at(0).second.item<float>(), 21.0f);
  // A scalar, by name; its default where it is left out.
  const at::Tensor added = Call("aten::add", "Tensor", {{"self", x}, {"other", x}, {"alpha", 2}}).tensors.at(0).second;
  EXPECT_EQ(added[0][0].item<float>(), 3.0f);
  EXPECT_EQ(Call("aten::add", "Tensor", {x, x}).tensors.at(0).second[0][0].item<float>(), 2.0f);
  // A list of tensors in, two results out.
  EXPECT_EQ(Call("aten::cat", "", {{x, x}, 0}).tensors.at(0).second.size(0), 4);
  const OpResults top = Call("aten::topk", "", {x, 2});
  ASSERT_EQ(top.tensors.size(), 2u);
  EXPECT_EQ(top.tensors[1].first, "results[1]");
  // A list of tensors out.
  EXPECT_EQ(Call("aten::split", "Tensor", {x, 1}).tensors.size(), 2u);
  // A device and a dtype.
  EXPECT_EQ(Call("aten::zeros", "", {{2}, "int32", nullptr, "device"}).tensors.at(0).second.scalar_type(), at::kInt);
  // Numbers out.
  EXPECT_EQ(Call("aten::size", "int", {x, 1}).tensors.at(0).second.item<std::int64_t>(), 3);
}

TEST(OpCall, GivesWrittenArgumentsAsFreshCopies) {
  const json values = {{"x", {{"fill", 1}, {"shape", {2}}, {"dtype", "float32"}}}};
  json description = json::parse(kText);
  description["op"] = "aten::add_";
  description["overload"] = "Scalar";
  description["values"] = values;
  description["parameters"] = {{"expect", {"any"}}};
  description["arguments"] = {{{"value", "x"}}, 1};
  description["compare"] = {"self", 0};
  const OpCall call(Read(description).at(0));
  for (int run = 0; run < 3; ++run) {
    const OpResults results = call.Run();
    ASSERT_EQ(results.tensors.size(), 2u);
    for (const auto& [name, tensor] : results.tensors) EXPECT_EQ(tensor[0].item<float>(), 2.0f) << name;
  }
}

TEST(OpCall, PacksByAnotherOperator) {
  const json made = {{"op", "aten::mul.Scalar"}, {"arguments", {{{"value", "x"}}, 3}}};
  const json in_place = {{"op", "aten::add_.Scalar"}, {"arguments", {{{"value", "x"}}, 5}}, {"take", "self"}};
  const json values = {{"x", {{"fill", 2}, {"shape", {1}}, {"dtype", "float32"}}}, {"made", made}, {"moved", in_place}};
  const auto argument = [](const char* name) { return json{{"value", name}}; };
  EXPECT_EQ(
      Call("aten::add", "Tensor", {argument("made"), argument("moved")}, values).tensors.at(0).second.item<float>(),
      13.0f);
  EXPECT_EQ(Call("aten::add", "Tensor", {argument("moved"), argument("x")}, values).tensors.at(0).second.item<float>(),
            9.0f)
      << "what it is made of must stay as it is";
}

TEST(OpCall, TheSameSeedGivesTheSameNumbers) {
  const auto draw = [](const char* kind, int seed) {
    const json x = {{"random", kind}, {"shape", {64}}, {"dtype", "float32"}, {"seed", seed}};
    return Call("aten::clone", "", json::array({x})).tensors.at(0).second;
  };
  EXPECT_TRUE(draw("normal", 1).equal(draw("normal", 1)));
  EXPECT_FALSE(draw("normal", 1).equal(draw("normal", 2)));
  EXPECT_FALSE(draw("normal", 1).equal(draw("uniform", 1)));
  const json integers = {{"random", "integers"}, {"low", -2},       {"high", 1},
                         {"shape", {300}},       {"dtype", "int8"}, {"seed", 1}};
  const at::Tensor drawn = Call("aten::clone", "", json::array({integers})).tensors.at(0).second;
  EXPECT_EQ(drawn.min().item<int>(), -2);
  EXPECT_EQ(drawn.max().item<int>(), 0);
}

TEST(Description, TheOneInTheDocumentIsRead) {
  std::ifstream in(OP_DESCRIPTIONS_DOCUMENT);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::size_t first = text.find("```json\n"), last = text.find("```\n", first + 8);
  ASSERT_NE(last, std::string::npos);
  const std::vector<OpTest> tests = Read(json::parse(text.substr(first + 8, last - first - 8)));
  EXPECT_EQ(tests.size(), 3u);
  // Every key of a claim that is read stands in its tables.
  for (const char* key :
       {"deterministic_algorithms", "perturbations", "warmups", "compare", "overload", "parameters"}) {
    EXPECT_THAT(text, HasSubstr("`" + std::string(key) + "`"));
  }
  for (const std::string_view part : PartNames()) EXPECT_THAT(text, HasSubstr("`" + std::string(part) + "`"));
  for (const std::string_view name : PerturbationNames()) EXPECT_THAT(text, HasSubstr("`" + std::string(name) + "`"));
}

// The bold keys of the document's tables are those without which nothing is read.
TEST(Description, TheDocumentMarksWhatIsRequired) {
  std::ifstream in(OP_DESCRIPTIONS_DOCUMENT);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::size_t marked = 0;
  for (std::size_t at = 0; (at = text.find("**`", at)) != std::string::npos; ++at) ++marked;
  const std::vector<std::string> required = {"/schema_version",   "/name",          "/op", "/arguments", "/tests",
                                             "/tests/0/property", "/tests/0/expect"};
  EXPECT_EQ(marked, required.size());
  for (const std::string& key : required) {
    const json::json_pointer pointer(key);
    EXPECT_THAT(text, HasSubstr("**`" + pointer.back() + "`**"));
    json without = json::parse(kText);
    without["parameters"].erase("expect");
    without["tests"][0]["expect"] = "any";
    Read(without);
    without[pointer.parent_pointer()].erase(pointer.back());
    EXPECT_THAT(Refusal(without), HasSubstr("lacks '" + pointer.back() + "'"));
  }
}

TEST(Description, ThoseOfTheTreeAreRead) {
  int files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(OP_DESCRIPTIONS_DIR)) {
    const std::vector<OpTest> tests = ReadDescription(entry.path());
    EXPECT_FALSE(tests.empty()) << entry.path();
    EXPECT_EQ(tests.at(0).suite + ".json", entry.path().filename());
    ++files;
  }
  EXPECT_GE(files, 7);
}

}  // namespace
}  // namespace suites::op_test
