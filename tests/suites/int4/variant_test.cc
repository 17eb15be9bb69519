#include "suites/int4/variant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/suites/int4/temporary_folder.h"

namespace suites {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kEntry[] =
    R"({"model_name": "org/model", "quantization": "awq", "description": "d", "format": "awq", "kernel": "awq"})";

class VariantTest : public testing::Test {
 protected:
  std::filesystem::path Write(const std::string& text) {
    const std::filesystem::path file = folder_.path() / "variants.json";
    std::ofstream(file) << text;
    return file;
  }
  // The message of the error, which must be one line that names the file.
  std::string ErrorOf(const std::string& text) {
    const std::filesystem::path file = Write(text);
    try {
      ReadVariants(file);
    } catch (const VariantError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(file.string()), Not(HasSubstr("\n"))));
      return error.what();
    }
    ADD_FAILURE() << "accepted: " << text;
    return "";
  }
  TemporaryFolder folder_;
};

std::vector<std::string> Ids(const std::vector<Variant>& variants) {
  std::vector<std::string> ids;
  for (const Variant& variant : variants) ids.push_back(variant.id);
  return ids;
}

TEST_F(VariantTest, ShippedTableHoldsTheSixVariantsInTheUsersOrder) {
  const std::vector<Variant> variants = ReadVariants(SUITES_SOURCE_DIR "/variants.json");
  EXPECT_THAT(Ids(variants), ElementsAre("awq_marlin", "awq", "gptq_marlin", "gptq", "openvino", "pytorch_int4"));
  EXPECT_EQ(variants[3].model_name, "JunHowie/Qwen3-8B-GPTQ-Int4");
  EXPECT_EQ(variants[3].ExpectedOn("cpu", "builtin"), "nondeterministic");
  EXPECT_EQ(variants[0].ExpectedOn("cpu", "builtin"), "bit_exact");
}

TEST_F(VariantTest, AnExpectationThatTheTableDoesNotStateIsEmpty) {
  const std::vector<Variant> variants = ReadVariants(SUITES_SOURCE_DIR "/variants.json");
  EXPECT_EQ(variants[0].ExpectedOn("cuda", "somebody"), "");
}

TEST_F(VariantTest, ReadsAnEntryAndKeepsTheOrderOfTheFile) {
  const auto file = Write(std::string("{\"zeta\": ") + kEntry + ", \"alpha\": " + kEntry + "}");
  EXPECT_THAT(Ids(ReadVariants(file)), ElementsAre("zeta", "alpha"));
}

TEST_F(VariantTest, QuantizationMayBeNull) {
  const auto file = Write(
      R"({"x": {"model_name": "m", "quantization": null, "description": "d", "format": "awq", "kernel": "awq"}})");
  EXPECT_EQ(ReadVariants(file).at(0).quantization, "");
}

TEST_F(VariantTest, RefusesWhatIsNotATable) {
  EXPECT_THAT(ErrorOf("{\"a\": "), HasSubstr("not JSON"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("not JSON"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("holds no variant"));
  EXPECT_THAT(ErrorOf("{\"a\": 3}"), HasSubstr("variant 'a'"));
  EXPECT_THAT(ErrorOf(std::string(100000, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(ErrorOf("{\"a\": 1e999}"), HasSubstr("a number too large"));
  EXPECT_THAT(ErrorOf("{\"a\\n\": 3}"), HasSubstr("variant 'a\\x0a'"));
}

TEST_F(VariantTest, NamesAMissingField) {
  for (const char* key : {"model_name", "quantization", "description", "format", "kernel"}) {
    std::string text = std::string("{\"a\": ") + kEntry + "}";
    const std::size_t at = text.find(std::string("\"") + key);
    text.replace(at + 1, 1, "X");
    EXPECT_THAT(ErrorOf(text), AllOf(HasSubstr("'a'"), HasSubstr(std::string("'") + key + "' is missing"))) << key;
  }
}

TEST_F(VariantTest, NamesAnUnknownKernelFormatAndOutcome) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = std::string("{\"a\": ") + kEntry + "}";
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_THAT(ErrorOf(with("\"kernel\": \"awq\"", "\"kernel\": \"warp\"")),
              AllOf(HasSubstr("no kernel 'warp'"), HasSubstr("marlin")));
  EXPECT_THAT(ErrorOf(with("\"format\": \"awq\"", "\"format\": \"gguf\"")), HasSubstr("no format 'gguf'"));
  EXPECT_THAT(ErrorOf(with("\"format\"", "\"expected\": {\"cpu/builtin\": \"fine\"}, \"format\"")),
              HasSubstr("no outcome 'fine'"));
  EXPECT_THAT(ErrorOf(with("\"format\"", "\"expected\": {\"cpu\": \"bit_exact\"}, \"format\"")),
              HasSubstr("cpu/builtin"));
  EXPECT_THAT(ErrorOf(with("\"kernel\": \"awq\"", "\"kernel\": \"openvino\"")), HasSubstr("must both be 'openvino'"));
}

TEST_F(VariantTest, SettingsAreThoseOfOpenVino) {
  const auto entry = [](const std::string& kernel, const std::string& settings) {
    return R"({"a": {"model_name": "m", "quantization": "q", "description": "d", "format": ")" + kernel +
           R"(", "kernel": ")" + kernel + R"(", "settings": )" + settings + "}}";
  };
  const std::string all = R"({"threads": 4, "streams": 2, "inference_precision": "f32", "kv_cache_precision": "u8"})";
  const RuntimeSettings settings = ReadVariants(Write(entry("openvino", all))).at(0).settings;
  EXPECT_EQ(settings.threads, 4);
  EXPECT_EQ(settings.streams, 2);
  EXPECT_EQ(settings.inference_precision, "f32");
  EXPECT_EQ(settings.kv_cache_precision, "u8");
  EXPECT_EQ(ReadVariants(Write(entry("openvino", "{}"))).at(0).settings.threads, 0) << "its own choice";
  EXPECT_THAT(ErrorOf(entry("awq", all)), HasSubstr("kernel awq has none"));
  EXPECT_THAT(ErrorOf(entry("openvino", R"({"threads": 0})")),
              AllOf(HasSubstr("setting 'threads'"), HasSubstr("from 1 to 4096")));
  EXPECT_THAT(ErrorOf(entry("openvino", R"({"streams": "two"})")), HasSubstr("setting 'streams'"));
  EXPECT_THAT(ErrorOf(entry("openvino", R"({"kv_cache_precision": "int8"})")),
              AllOf(HasSubstr("no precision 'int8'"), HasSubstr("u8")));
  EXPECT_THAT(ErrorOf(entry("openvino", R"({"inference_precision": 16})")), HasSubstr("must be a string"));
  EXPECT_THAT(ErrorOf(entry("openvino", R"({"cores": 2})")),
              AllOf(HasSubstr("no setting 'cores'"), HasSubstr("streams")));
  EXPECT_THAT(ErrorOf(entry("openvino", "[]")), HasSubstr("'settings' must be an object"));
}

TEST_F(VariantTest, RefusesIdsThatAreNoIdentifiersAndDuplicates) {
  EXPECT_THAT(ErrorOf(std::string("{\"../x\": ") + kEntry + "}"), HasSubstr("letters, digits and '_'"));
  EXPECT_THAT(ErrorOf(std::string("{\"a\": ") + kEntry + ", \"a\": " + kEntry + "}"), HasSubstr("'a' comes twice"));
}

TEST_F(VariantTest, NamesAMissingFile) {
  EXPECT_THROW(
      {
        try {
          ReadVariants(folder_.path() / "none.json");
        } catch (const VariantError& error) {
          EXPECT_THAT(error.what(), HasSubstr("none.json: cannot be read"));
          throw;
        }
      },
      VariantError);
}

TEST_F(VariantTest, SelectsInTheOrderOfTheTable) {
  const std::vector<Variant> table = ReadVariants(SUITES_SOURCE_DIR "/variants.json");
  EXPECT_THAT(Ids(SelectVariants(table, {"gptq", "awq"})), ElementsAre("awq", "gptq"));
  EXPECT_EQ(SelectVariants(table, {}).size(), 6u);
  EXPECT_EQ(SelectVariants(table, {"all"}).size(), 6u);
  try {
    SelectVariants(table, {"awq", "qqq"});
    ADD_FAILURE() << "accepted";
  } catch (const VariantError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("no variant 'qqq'"), HasSubstr("pytorch_int4")));
  }
}

}  // namespace
}  // namespace suites
