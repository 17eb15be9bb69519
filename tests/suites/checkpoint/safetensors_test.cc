#include "suites/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <csignal>

#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::EditJson;
using testing_support::ErrorOf;
using testing_support::LengthBytes;
using testing_support::RawSafetensors;
using testing_support::ReadFile;
using testing_support::ScratchFolder;
using testing_support::WriteFile;

constexpr char kClean[] =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},)"
    R"("b":{"dtype":"I32","shape":[],"data_offsets":[12,16]},"c":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]}})";

TEST(SafetensorsReaderTest, ReadsShapesDtypesDataAndMetadata) {
  const ScratchFolder folder;
  const auto file = folder.path() / "x.safetensors";
  WriteFile(file, RawSafetensors(kClean, 16));
  const SafetensorsReader reader = SafetensorsReader::Open(file);
  EXPECT_EQ(reader.tensors().size(), 3u);
  EXPECT_EQ(reader.Get("a").dtype, "F16");
  EXPECT_THAT(reader.Get("a").shape, ElementsAre(2, 3));
  EXPECT_EQ(reader.Get("a").data.size(), 12u);
  EXPECT_EQ(reader.Get("a").data[0], std::byte{1});
  EXPECT_TRUE(reader.Get("b").shape.empty());
  EXPECT_EQ(reader.Get("b").data.size(), 4u);
  EXPECT_TRUE(reader.Get("c").data.empty());
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  EXPECT_THAT(ErrorOf(file, [&] { reader.Get("d"); }), HasSubstr("no tensor 'd'"));
}

TEST(SafetensorsReaderTest, TensorsOutliveTheReader) {
  const ScratchFolder folder;
  const auto file = folder.path() / "x.safetensors";
  WriteFile(file, RawSafetensors(kClean, 16));
  const StoredTensor tensor = SafetensorsReader::Open(file).Get("a");
  EXPECT_EQ(tensor.data[11], std::byte{1});
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* message;
};

std::string Header(const std::string& header, std::size_t data) { return RawSafetensors(header, data); }

std::string DeepNesting() {
  const std::string open(200'000, '[');
  return R"({"a":)" + open + std::string(200'000, ']') + "}";
}

class BadSafetensorsTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensorsTest, IsRefusedInOneLine) {
  const ScratchFolder folder;
  const auto file = folder.path() / "bad.safetensors";
  WriteFile(file, GetParam().bytes);
  EXPECT_THAT(ErrorOf(file, [&] { SafetensorsReader::Open(file); }), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadSafetensorsTest,
    testing::Values(
        BadFile{"Empty", "", "only 0 bytes"},  //
        BadFile{"LengthCutShort", std::string(7, '\0'), "only 7 bytes"},
        BadFile{"HeaderOf2To63Bytes", LengthBytes(std::uint64_t{1} << 63) + kClean,
                "claims 9223372036854775808 bytes, more than the 100000000"},
        BadFile{"HeaderOf2To64Bytes", LengthBytes(~std::uint64_t{0}) + kClean, "claims 18446744073709551615 bytes"},
        BadFile{"HeaderLongerThanTheFile", LengthBytes(5000) + kClean, "claims 5000 bytes, the file has only"},
        BadFile{"DataCutShort", Header(kClean, 15), "lie outside the 15 bytes of data"},
        BadFile{"NotJson", Header("{\"a\":", 0), "not valid JSON"},
        BadFile{"NoHeader", LengthBytes(0), "not valid JSON"},
        BadFile{"BytesThatAreNotUtf8", Header("{\"\xff\":1}", 0), "not valid JSON"},
        BadFile{"NotAnObject", Header("[1,2]", 0), "not a JSON object"},
        BadFile{"DeeplyNested", Header(DeepNesting(), 0), "nested deeper"},
        BadFile{"SameNameTwice",
                Header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                       2),
                "the key 'a' occurs twice"},
        BadFile{"KeyTwiceInATensor", Header(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1),
                "the key 'dtype' occurs twice"},
        BadFile{"Overlap",
                Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                       6),
                "tensors 'a' and 'b' overlap"},
        BadFile{"SameBytesTwice",
                Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                       4),
                "overlap"},
        BadFile{"GapBefore", Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6),
                "2 bytes before tensor 'a' belong to no tensor"},
        BadFile{"GapAtTheEnd", Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 6),
                "2 bytes at the end belong to no tensor"},
        BadFile{"UnknownDtype", Header(R"({"a":{"dtype":"F12","shape":[4],"data_offsets":[0,6]}})", 6),
                "unknown dtype 'F12'"},
        BadFile{"NoDtype", Header(R"({"a":{"shape":[4],"data_offsets":[0,4]}})", 4), "no dtype"},
        BadFile{"NoShape", Header(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4), "no shape"},
        BadFile{"NoOffsets", Header(R"({"a":{"dtype":"U8","shape":[4]}})", 4), "no data_offsets"},
        BadFile{"EntryThatIsANumber", Header(R"({"a":4})", 0), "not a JSON object"},
        BadFile{"ShapeThatDoesNotFit", Header(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,12]}})", 12),
                "takes 16 bytes, its data_offsets hold 12"},
        BadFile{"NegativeSize", Header(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4),
                "its shape holds '-4', not a size"},
        BadFile{"FractionalSize", Header(R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4),
                "its shape holds '4.0', not a size"},
        BadFile{"ShapeProductOverflows",
                Header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0),
                "does not fit 64 bits"},
        BadFile{"SizeAbove63Bits",
                Header(R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0]}})", 0), "not a size"},
        BadFile{"HalfABytes", Header(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2),
                "does not fit 64 bits"},
        BadFile{"OffsetsBackwards", Header(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[4,2]}})", 4),
                "data_offsets [4, 2] lie outside"},
        BadFile{"NegativeOffset", Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}})", 4),
                "not two numbers"},
        BadFile{"OffsetAbove64Bits",
                Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551620]}})", 4),
                "not two numbers"},
        BadFile{"MetadataThatIsANumber", Header(R"({"__metadata__":{"a":1}})", 0), "is not a string"},
        BadFile{"NameWithALineFeed", Header("{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4), "'a\\x0ab'"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(SafetensorsReaderTest, RefusesWhatIsNoFile) {
  const ScratchFolder folder;
  const auto fifo = folder.path() / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf(fifo, [&] { SafetensorsReader::Open(fifo); }), HasSubstr("not a regular file"));
  const auto missing = folder.path() / "missing.safetensors";
  EXPECT_THAT(ErrorOf(missing, [&] { SafetensorsReader::Open(missing); }), HasSubstr("No such file"));
  EXPECT_THAT(ErrorOf(folder.path(), [&] { SafetensorsReader::Open(folder.path()); }),
              HasSubstr("neither model.safetensors nor"));
}

class ShardsTest : public testing::Test {
 protected:
  ShardsTest() {
    const auto shard = [](const std::string& name) {
      return RawSafetensors("{\"" + name + R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
    };
    WriteFile(folder_.path() / "model-00001-of-00002.safetensors", shard("a"));
    WriteFile(folder_.path() / "model-00002-of-00002.safetensors", shard("b"));
    WriteFile(index_, R"({"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors",)"
                      R"("b":"model-00002-of-00002.safetensors"}})");
  }
  // The error after the index was changed so that "b" lies in `file`.
  std::string ErrorWithShard(const std::string& file) {
    EditJson(index_, [&](auto* json) { (*json)["weight_map"]["b"] = file; });
    return ErrorOf(folder_.path(), [&] { SafetensorsReader::Open(folder_.path()); });
  }
  ScratchFolder folder_;
  std::filesystem::path index_ = folder_.path() / "model.safetensors.index.json";
};

TEST_F(ShardsTest, AreReadAsOne) {
  const SafetensorsReader reader = SafetensorsReader::Open(folder_.path());
  EXPECT_TRUE(reader.Contains("a"));
  EXPECT_TRUE(reader.Contains("b"));
}

TEST_F(ShardsTest, MustLieInTheFolder) {
  const ScratchFolder outside;
  std::filesystem::copy(folder_.path() / "model-00002-of-00002.safetensors", outside.path() / "b.safetensors");
  const auto absolute = (outside.path() / "b.safetensors").string();
  const auto relative = "../" + outside.path().filename().string() + "/b.safetensors";
  ASSERT_TRUE(std::filesystem::exists(folder_.path() / relative));
  EXPECT_THAT(ErrorWithShard(absolute), HasSubstr("is not the name of a file in the same folder"));
  EXPECT_THAT(ErrorWithShard(relative), HasSubstr("is not the name of a file in the same folder"));
  EXPECT_THAT(ErrorWithShard(".."), HasSubstr("is not the name of a file in the same folder"));
  EXPECT_THAT(ErrorWithShard(""), HasSubstr("is not the name of a file in the same folder"));
}

TEST_F(ShardsTest, MustBeThere) {
  EXPECT_THAT(ErrorWithShard("gone.safetensors"), HasSubstr("'gone.safetensors' is missing"));
}

TEST_F(ShardsTest, MustHoldWhatTheIndexSays) {
  EditJson(index_, [](auto* json) { (*json)["weight_map"]["c"] = "model-00002-of-00002.safetensors"; });
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { SafetensorsReader::Open(folder_.path()); }),
              HasSubstr("tensor 'c' is not in shard"));
}

TEST_F(ShardsTest, MustNotShareAName) {
  std::filesystem::copy_file(folder_.path() / "model-00001-of-00002.safetensors", folder_.path() / "copy.safetensors");
  EditJson(index_, [](auto* json) { (*json)["weight_map"]["c"] = "copy.safetensors"; });
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { SafetensorsReader::Open(folder_.path()); }),
              HasSubstr("tensor 'a' is also in another shard"));
}

TEST_F(ShardsTest, NeedAWeightMap) {
  WriteFile(index_, R"({"weights":{}})");
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { SafetensorsReader::Open(folder_.path()); }), HasSubstr("no weight_map"));
  WriteFile(index_, "[]");
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { SafetensorsReader::Open(folder_.path()); }), HasSubstr("no weight_map"));
}

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text.data(), text.size())); }

TEST(SafetensorsWriterTest, RoundTripsInTheOrderGiven) {
  const ScratchFolder folder;
  const auto file = folder.path() / "out.safetensors";
  WriteSafetensors(
      file, {{"z", "U8", {5}, Bytes("12345")}, {"a \"quoted\"", "F16", {1, 2}, Bytes("abcd")}, {"s", "U8", {0}, {}}},
      {{"format", "pt"}});
  const SafetensorsReader reader = SafetensorsReader::Open(file);
  EXPECT_EQ(reader.Get("z").data.size(), 5u);
  EXPECT_EQ(reader.Get("a \"quoted\"").data[3], std::byte{'d'});
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  // The order of the data, and a header that ends at a multiple of 8.
  const std::string bytes = ReadFile(file);
  EXPECT_TRUE(bytes.ends_with("12345abcd"));
  EXPECT_EQ((bytes.size() - 9) % 8, 0u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(SafetensorsWriterTest, LeavesNothingWithoutFinish) {
  const ScratchFolder folder;
  const auto file = folder.path() / "out.safetensors";
  {
    SafetensorsWriter writer(file, {{"a", "U8", {4}}});
    writer.Append(Bytes("12"));
    EXPECT_THAT(ErrorOf(file, [&] { writer.Finish(); }), HasSubstr("2 of 4 bytes"));
    EXPECT_THAT(ErrorOf(file, [&] { writer.Append(Bytes("345")); }), HasSubstr("more data"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriterTest, RefusesWhatNoReaderTakes) {
  const ScratchFolder folder;
  const auto file = folder.path() / "out.safetensors";
  EXPECT_THAT(ErrorOf(file, [&] { SafetensorsWriter(file, {{"a", "F12", {4}}}); }), HasSubstr("unknown dtype"));
  EXPECT_THAT(ErrorOf(file,
                      [&] {
                        SafetensorsWriter(file, {{"a", "U8", {4}}, {"a", "U8", {4}}});
                      }),
              HasSubstr("its name is taken"));
  EXPECT_THAT(ErrorOf(file, [&] { SafetensorsWriter(file, {{"a", "U8", {-1}}}); }), HasSubstr("negative"));
  EXPECT_THAT(ErrorOf(file, [&] { SafetensorsWriter(file, {{"\xff", "U8", {1}}}); }), HasSubstr("not UTF-8"));
  EXPECT_THAT(ErrorOf(file,
                      [&] {
                        WriteSafetensors(file, {{"a", "U8", {3}, Bytes("12")}});
                      }),
              HasSubstr("has 2 bytes"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriterTest, SaysWhyItCannotWrite) {
  const ScratchFolder folder;
  const auto file = folder.path() / "missing" / "out.safetensors";
  EXPECT_THAT(ErrorOf(file, [&] { SafetensorsWriter(file, {{"a", "U8", {4}}}); }), HasSubstr("No such file"));
}

TEST(SafetensorsWriterTest, AFullDiskLeavesNothing) {
  const ScratchFolder folder;
  const auto file = folder.path() / "out.safetensors";
  const std::string data(1 << 16, 'x');
  // A limit of the file size stands for the full disk; the write fails alike.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = ErrorOf(file, [&] { WriteSafetensors(file, {{"a", "U8", {1 << 16}, Bytes(data)}}); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(message, HasSubstr("cannot be written: File too large"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  WriteSafetensors(file, {{"a", "U8", {1 << 16}, Bytes(data)}});
  EXPECT_EQ(SafetensorsReader::Open(file).Get("a").data.size(), data.size());
}

}  // namespace
}  // namespace suites
