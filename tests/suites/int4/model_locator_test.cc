#include "suites/int4/model_locator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

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
    for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"})
      std::ofstream(folder / name) << "{}";
  }
  void MakeCached(const std::string& ref) {
    const fs::path model = places_.hub_cache / "models--Qwen--Qwen3-8B-AWQ";
    fs::create_directories(model / "refs");
    std::ofstream(model / "refs" / "main") << ref;
    MakeModel(model / "snapshots" / "abc123");
  }
  fs::path Cached() const { return places_.hub_cache / "models--Qwen--Qwen3-8B-AWQ"; }
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

// What looking at a config or a tokenizer leaves in the cache.
TEST_F(ModelLocatorTest, ACachedModelWithoutAnyWeightsIsNotThere) {
  MakeCached("abc123");
  EXPECT_EQ(LocateModel(variant_, places_).source, "huggingface_cache");
  fs::remove(Cached() / "snapshots/abc123/model.safetensors");
  EXPECT_THROW(LocateModel(variant_, places_), VariantError);
  std::ofstream(Cached() / "snapshots/abc123/model.safetensors.index.json") << "{}";
  EXPECT_EQ(LocateModel(variant_, places_).source, "huggingface_cache") << "in part: the reader says what is missing";
}

// As huggingface_hub lays it out: refs name commits, files are links to blobs.
class HubCacheTest : public ModelLocatorTest {
 protected:
  static constexpr const char* kOld = "0123456789abcdef0123456789abcdef01234567";
  static constexpr const char* kNew = "01234aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
  HubCacheTest() {
    for (const char* commit : {kOld, kNew}) {
      const fs::path snapshot = Cached() / "snapshots" / commit;
      fs::create_directories(snapshot);
      fs::create_directories(Cached() / "blobs");
      for (const std::string name : {"config.json", "tokenizer.json", "model.safetensors"}) {
        const std::string blob = commit + name;
        std::ofstream(Cached() / "blobs" / blob) << "{}";
        fs::create_symlink(fs::path("../../blobs") / blob, snapshot / name);
      }
    }
    fs::create_directories(Cached() / "refs/refs/pr");
    std::ofstream(Cached() / "refs/main") << kNew;
    std::ofstream(Cached() / "refs/v1.0") << kOld << "\n";
    std::ofstream(Cached() / "refs/refs/pr/3") << kOld;
  }
  std::string CommitFor(const std::string& revision) {
    variant_.model_name = "Qwen/Qwen3-8B-AWQ" + revision;
    try {
      return LocateModel(variant_, places_).folder.filename().string();
    } catch (const VariantError&) {
      return "none";
    }
  }
};

TEST_F(HubCacheTest, ARevisionIsABranchATagOrACommit) {
  EXPECT_EQ(CommitFor(""), kNew);
  EXPECT_EQ(CommitFor("@main"), kNew);
  EXPECT_EQ(CommitFor("@v1.0"), kOld);
  EXPECT_EQ(CommitFor("@refs/pr/3"), kOld);
  EXPECT_EQ(CommitFor(std::string("@") + kOld), kOld);
  EXPECT_EQ(CommitFor("@0123456"), kOld);
  EXPECT_EQ(CommitFor("@01234aa"), kNew);
  // Controls.
  EXPECT_EQ(CommitFor("@v2.0"), "none");
  EXPECT_EQ(CommitFor("@012345"), "none") << "too short";
  EXPECT_EQ(CommitFor("@fedcba9876543210fedcba9876543210fedcba98"), "none");
  EXPECT_EQ(CommitFor("@../refs/main"), "none");
  EXPECT_EQ(CommitFor("@v1.0/../../main"), "none");
  EXPECT_EQ(CommitFor("@/etc/hostname"), "none");
  fs::create_directories(Cached() / "snapshots/0123456bbb");
  EXPECT_EQ(CommitFor("@0123456"), "none") << "the beginning of two";
}

TEST_F(HubCacheTest, NamesThatLeadOutOfTheCacheAreNotFollowed) {
  for (const char* name : {"..", "a\\..", ""}) {
    EXPECT_TRUE(InHubCache(places_.hub_cache, {name, "main"}).empty()) << name;
  }
  EXPECT_FALSE(InHubCache(places_.hub_cache, {"Qwen/Qwen3-8B-AWQ", "main"}).empty()) << "control";
}

TEST_F(HubCacheTest, ModelDirMayNameAModelOfTheHub) {
  places_.by_variant["awq"] = "Qwen/Qwen3-8B-AWQ@v1.0";
  const LocatedModel found = LocateModel(variant_, places_);
  EXPECT_EQ(found.folder, Cached() / "snapshots" / kOld);
  EXPECT_EQ(found.source, "--model-dir");
  EXPECT_EQ(found.name, "Qwen/Qwen3-8B-AWQ@v1.0");
  for (const char* missing : {"Qwen/Qwen3-8B-AWQ@v9", "Qwen/Qwen3-9B"}) {
    places_.by_variant["awq"] = missing;
    try {
      LocateModel(variant_, places_);
      ADD_FAILURE() << missing;
    } catch (const VariantError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(missing), HasSubstr("no such folder"), HasSubstr("hf download")));
    }
  }
  // A path, and a folder that is there, are never looked for in the cache.
  for (const char* path : {"./Qwen/Qwen3-8B-AWQ", "/Qwen/Qwen3-8B-AWQ", "a/b/c"}) {
    places_.by_variant["awq"] = path;
    EXPECT_EQ(LocateModel(variant_, places_).folder, path);
  }
}

TEST_F(HubCacheTest, SaysWhatIsMissing) {
  const fs::path snapshot = Cached() / "snapshots" / kNew;
  EXPECT_THAT(MissingFiles(snapshot), testing::IsEmpty());
  fs::remove(Cached() / "blobs" / (std::string(kNew) + "model.safetensors"));  // a link that leads nowhere
  EXPECT_THAT(MissingFiles(snapshot), testing::ElementsAre("model.safetensors", "weights"));
  std::ofstream(snapshot / "model.safetensors.index.json")
      << R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}})";
  std::ofstream(snapshot / "one.safetensors") << "x";
  fs::remove(snapshot / "model.safetensors");
  EXPECT_THAT(MissingFiles(snapshot), testing::ElementsAre("two.safetensors"));
  fs::remove(snapshot / "tokenizer.json");
  std::ofstream(snapshot / "model.safetensors.index.json") << "[";
  EXPECT_THAT(MissingFiles(snapshot),
              testing::ElementsAre("model.safetensors.index.json (unreadable)", "tokenizer.json"));
  EXPECT_THAT(MissingFiles(folder_.path() / "nowhere"),
              testing::ElementsAre("config.json", "tokenizer.json", "weights"));
}

// The variables of huggingface_hub, the first that is set.
TEST(ModelPlacesTest, TheCacheIsWhereTheHubPutsIt) {
  const std::vector<const char*> names = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"};
  std::map<std::string, std::string> before;
  for (const char* name : names) {
    if (const char* value = std::getenv(name)) before[name] = value;
    unsetenv(name);
  }
  EXPECT_EQ(PlacesOfThisProcess().hub_cache, "");
  setenv("HOME", "/home/u", 1);
  EXPECT_EQ(PlacesOfThisProcess().hub_cache, "/home/u/.cache/huggingface/hub");
  setenv("XDG_CACHE_HOME", "/xdg", 1);
  EXPECT_EQ(PlacesOfThisProcess().hub_cache, "/xdg/huggingface/hub");
  setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(PlacesOfThisProcess().hub_cache, "/home/u/hf/hub");
  setenv("HUGGINGFACE_HUB_CACHE", "/older", 1);
  EXPECT_EQ(PlacesOfThisProcess().hub_cache, "/older");
  setenv("HF_HUB_CACHE", "/cache", 1);
  EXPECT_EQ(PlacesOfThisProcess().hub_cache, "/cache");
  for (const char* name : names) unsetenv(name);
  for (const auto& [name, value] : before) setenv(name.c_str(), value.c_str(), 1);
}

}  // namespace
}  // namespace suites
