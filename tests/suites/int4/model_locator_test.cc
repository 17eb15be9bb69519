#include "suites/int4/model_locator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/suites/int4/temporary_folder.h"

namespace suites {
namespace {

using testing::AllOf;
using testing::HasSubstr;

namespace fs = std::filesystem;

class ModelLocatorTest : public testing::Test {
 protected:
  ModelLocatorTest() {
    variant_.id = "awq";
    variant_.model_name = "Qwen/Qwen3-8B-AWQ";
    variant_.format = "awq";
    places_.models_dir = folder_.path() / "models";
    places_.hub_cache = folder_.path() / "hub";
    places_.embedded = folder_.path() / "embedded";
  }
  static void MakeModel(const fs::path& folder) {
    fs::create_directories(folder);
    std::ofstream(folder / "config.json") << "{}";
  }
  void MakeCached(const std::string& ref) {
    const fs::path model = places_.hub_cache / "models--Qwen--Qwen3-8B-AWQ";
    fs::create_directories(model / "refs");
    std::ofstream(model / "refs" / "main") << ref;
    MakeModel(model / "snapshots" / "abc123");
  }
  TemporaryFolder folder_;
  Variant variant_;
  ModelPlaces places_;
};

TEST_F(ModelLocatorTest, PlacesAreTriedInTheirOrder) {
  EXPECT_THROW(LocateModel(variant_, places_), VariantError);
  MakeModel(places_.embedded / "awq");
  EXPECT_EQ(LocateModel(variant_, places_).source, "embedded");
  MakeCached("abc123");
  EXPECT_EQ(LocateModel(variant_, places_).source, "huggingface_cache");
  MakeModel(places_.models_dir / "Qwen3-8B-AWQ");
  EXPECT_EQ(LocateModel(variant_, places_).source, "QUANT_MODELS_DIR");
  places_.by_variant["awq"] = folder_.path() / "given";
  const LocatedModel given = LocateModel(variant_, places_);
  EXPECT_EQ(given.source, "--model-dir");
  EXPECT_EQ(given.folder, folder_.path() / "given");
}

TEST_F(ModelLocatorTest, TheEmbeddedModelNeverBearsTheNameOfTheRealOne) {
  MakeModel(places_.embedded / "awq");
  EXPECT_THAT(LocateModel(variant_, places_).name, AllOf(HasSubstr("tiny_qwen3"), testing::Not(HasSubstr("Qwen3-8B"))));
  MakeCached("abc123");
  EXPECT_EQ(LocateModel(variant_, places_).name, "Qwen/Qwen3-8B-AWQ");
}

TEST_F(ModelLocatorTest, AModelsFolderMayBeNamedByVariantByModelOrByItsLastPart) {
  for (const char* name : {"awq", "Qwen/Qwen3-8B-AWQ", "Qwen3-8B-AWQ"}) {
    MakeModel(places_.models_dir / name);
    EXPECT_EQ(LocateModel(variant_, places_).folder, places_.models_dir / name);
    fs::remove_all(places_.models_dir);
  }
}

TEST_F(ModelLocatorTest, ARefThatLeavesTheCacheIsNotFollowed) {
  MakeModel(places_.hub_cache / "elsewhere");
  MakeCached("../../elsewhere");
  EXPECT_THROW(LocateModel(variant_, places_), VariantError);
}

TEST_F(ModelLocatorTest, ACachedModelWithoutItsConfigIsNotThere) {
  MakeCached("another");
  EXPECT_THROW(LocateModel(variant_, places_), VariantError);
}

}  // namespace
}  // namespace suites
