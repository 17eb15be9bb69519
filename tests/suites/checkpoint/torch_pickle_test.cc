#include "suites/checkpoint/torch_pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "suites/checkpoint/zip_archive.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::ErrorOf;
using testing_support::ReadFile;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

const std::filesystem::path kReal = TestData() / "checkpoints/torchao/pytorch_model.bin";

TEST(TorchPickleTest, ReadsWhatTorchaoWrote) {
  const TensorTable table = OpenTorchPickle(TestData() / "checkpoints/torchao");
  EXPECT_EQ(table.path(), kReal);
  EXPECT_THAT(table.Get("model.embed_tokens.weight").shape, ElementsAre(1024, 256));
  EXPECT_EQ(table.Get("model.embed_tokens.weight").dtype, "BF16");
  // Tied: one storage.
  EXPECT_EQ(table.Get("lm_head.weight").data.data(), table.Get("model.embed_tokens.weight").data.data());
  EXPECT_THAT(table.Get("model.layers.0.self_attn.q_proj._weight_qdata").shape, ElementsAre(64, 8, 32, 4));
  EXPECT_EQ(table.Get("model.layers.0.self_attn.q_proj._weight_qdata").dtype, "I32");
  EXPECT_THAT(table.Get("model.layers.0.self_attn.q_proj._weight_scale_and_zero").shape, ElementsAre(8, 512, 2));
  EXPECT_THAT(table.metadata().at("model.layers.0.self_attn.q_proj.weight"), HasSubstr("[512,256]"));
  EXPECT_EQ(table.tensors().size(), 1u + 2 * 7 + 4 + 1 + 1);
}

// --- archives made here ---

template <typename T>
std::string Field(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

struct ZipEntry {
  std::string name;
  std::string data;
  std::uint16_t method = 0;
};

// As torch.save() writes: flag bit 3, no sizes in the local headers.
std::string Zip(const std::vector<ZipEntry>& entries, bool zip64 = false) {
  std::string out;
  std::string directory;
  for (const ZipEntry& e : entries) {
    const std::uint64_t local = out.size();
    const auto size = static_cast<std::uint64_t>(e.data.size());
    const auto name_size = static_cast<std::uint16_t>(e.name.size());
    out += "PK\x03\x04" + Field<std::uint16_t>(20) + Field<std::uint16_t>(8) + Field(e.method) + std::string(8, '\0') +
           Field<std::uint32_t>(0) + Field<std::uint32_t>(0) + Field(name_size) + Field<std::uint16_t>(0) + e.name +
           e.data;
    const std::string extra =
        zip64 ? Field<std::uint16_t>(1) + Field<std::uint16_t>(24) + Field(size) + Field(size) + Field(local) : "";
    const auto field32 = [&](std::uint64_t value) {
      return Field(zip64 ? 0xffffffffU : static_cast<std::uint32_t>(value));
    };
    directory += "PK\x01\x02" + Field<std::uint16_t>(20) + Field<std::uint16_t>(20) + Field<std::uint16_t>(8) +
                 Field(e.method) + std::string(8, '\0') + field32(size) + field32(size) + Field(name_size) +
                 Field(static_cast<std::uint16_t>(extra.size())) + std::string(10, '\0') + field32(local) + e.name +
                 extra;
  }
  const std::uint64_t offset = out.size();
  const auto count = static_cast<std::uint64_t>(entries.size());
  out += directory;
  if (zip64) {
    const std::uint64_t end = out.size();
    out += "PK\x06\x06" + Field<std::uint64_t>(44) + std::string(12, '\0') + Field(count) + Field(count) +
           Field<std::uint64_t>(directory.size()) + Field(offset);
    out += std::string("PK\x06\x07") + Field<std::uint32_t>(0) + Field(end) + Field<std::uint32_t>(1);
  }
  const auto count16 = zip64 ? std::uint16_t{0xffff} : static_cast<std::uint16_t>(count);
  return out + "PK\x05\x06" + Field<std::uint32_t>(0) + Field(count16) + Field(count16) +
         Field(static_cast<std::uint32_t>(directory.size())) +
         Field(zip64 ? 0xffffffffU : static_cast<std::uint32_t>(offset)) + Field<std::uint16_t>(0);
}

std::string Text(const std::string& text) { return "X" + Field(static_cast<std::uint32_t>(text.size())) + text; }

// {"w": _rebuild_tensor_v2(storage 0 of `elements` floats, offset, (2, 2), strides, False, OrderedDict())}
std::string Program(int elements = 4, int offset = 0, const std::string& strides = "K\x02K\x01\x86",
                    const std::string& storage = "ctorch\nFloatStorage\n") {
  return "\x80\x02}" + Text("w") + "ctorch._utils\n_rebuild_tensor_v2\n((" + Text("storage") + storage + Text("0") +
         Text("cuda:0") + "J" + Field<std::int32_t>(elements) + "tQJ" + Field<std::int32_t>(offset) + "K\x02K\x02\x86" +
         strides + "\x89" + "ccollections\nOrderedDict\n)RtRs.";
}

std::string Archive(const std::string& program, bool zip64 = false) {
  return Zip({{"m/data.pkl", program}, {"m/byteorder", "little"}, {"m/data/0", std::string(16, '\1')}}, zip64);
}

class MadePickleTest : public testing::Test {
 protected:
  std::string Error(const std::string& bytes) {
    WriteFile(file_, bytes);
    return ErrorOf(file_, [&] { OpenTorchPickle(file_); });
  }
  ScratchFolder folder_;
  std::filesystem::path file_ = folder_.path() / "pytorch_model.bin";
};

TEST_F(MadePickleTest, IsReadWithAndWithoutZip64) {
  for (const bool zip64 : {false, true}) {
    ASSERT_EQ(Error(Archive(Program(), zip64)), "") << zip64;
    const TensorTable table = OpenTorchPickle(file_);
    EXPECT_EQ(table.Get("w").dtype, "F32");
    EXPECT_THAT(table.Get("w").shape, ElementsAre(2, 2));
    EXPECT_EQ(table.Get("w").data[15], std::byte{1});
  }
}

// Above 4 GiB, as the first shard of pytorch/Qwen3-8B-INT4 nearly is: a record
// has in its ZIP64 field only what does not fit 32 bits. The file is a hole.
TEST_F(MadePickleTest, IsReadAboveFourGigabytes) {
  constexpr std::uint64_t kBig = (std::uint64_t{1} << 32) + 4096;
  const auto tensor = [](const std::string& key, std::int64_t bytes) {
    const auto count = "\x8a\x08" + Field<std::int64_t>(bytes);
    return Text("w" + key) + "ctorch._utils\n_rebuild_tensor_v2\n((" + Text("storage") + "ctorch\nByteStorage\n" +
           Text(key) + Text("cuda:0") + count + "tQK" + std::string(1, '\0') + count + "\x85K\x01\x85\x89" +
           "ccollections\nOrderedDict\n)RtRs";
  };
  const std::string program = "\x80\x02}" + tensor("0", static_cast<std::int64_t>(kBig)) + tensor("1", 5) + ".";
  std::ofstream out(file_, std::ios::binary);
  std::string directory;
  std::uint64_t position = 0;
  const auto add = [&](const std::string& name, std::uint64_t size, const std::string& data) {
    const std::uint64_t local = position;
    const std::string header = "PK\x03\x04" + Field<std::uint16_t>(45) + Field<std::uint16_t>(8) +
                               std::string(18, '\0') + Field(static_cast<std::uint16_t>(name.size())) +
                               std::string(2, '\0') + name;
    out << header << data;
    position += header.size() + size;
    out.seekp(static_cast<std::streamoff>(position));
    std::string extra;
    const auto field = [&](std::uint64_t value) {
      if (value < 0xffffffff) return Field(static_cast<std::uint32_t>(value));
      extra += Field(value);
      return Field(0xffffffffU);
    };
    const std::string uncompressed = field(size), compressed = field(size), offset = field(local);
    if (!extra.empty()) extra = Field<std::uint16_t>(1) + Field(static_cast<std::uint16_t>(extra.size())) + extra;
    directory += "PK\x01\x02" + std::string(4, '\0') + Field<std::uint16_t>(8) + std::string(10, '\0') + compressed +
                 uncompressed + Field(static_cast<std::uint16_t>(name.size())) +
                 Field(static_cast<std::uint16_t>(extra.size())) + std::string(10, '\0') + offset + name + extra;
  };
  add("m/data.pkl", program.size(), program);
  add("m/data/0", kBig, "first");
  add("m/data/1", 5, "after");
  const std::uint64_t end = position + directory.size();
  out << directory << "PK\x06\x06" << Field<std::uint64_t>(44) << std::string(12, '\0') << Field<std::uint64_t>(3)
      << Field<std::uint64_t>(3) << Field<std::uint64_t>(directory.size()) << Field(position) << "PK\x06\x07"
      << Field<std::uint32_t>(0) << Field(end) << Field<std::uint32_t>(1) << "PK\x05\x06" << Field<std::uint32_t>(0)
      << Field<std::uint16_t>(3) << Field<std::uint16_t>(3) << Field(static_cast<std::uint32_t>(directory.size()))
      << Field(0xffffffffU) << Field<std::uint16_t>(0);
  out.close();
  if (!out) GTEST_SKIP() << "no file above 4 GiB can be made here";

  const TensorTable table = OpenTorchPickle(file_);
  EXPECT_THAT(table.Get("w0").shape, ElementsAre(static_cast<std::int64_t>(kBig)));
  EXPECT_EQ(table.Get("w0").data[0], std::byte{'f'});
  EXPECT_EQ(table.Get("w0").data.back(), std::byte{0});
  EXPECT_EQ(table.Get("w1").data[4], std::byte{'r'});
  std::filesystem::resize_file(file_, kBig);  // cut
  EXPECT_THAT(ErrorOf(file_, [&] { OpenTorchPickle(file_); }), HasSubstr("damaged"));
}

// The promise of the reader: whatever a pickle would call, it is named and not called.
TEST_F(MadePickleTest, RefusesOtherGlobalsByName) {
  for (const char* name : {"os\nsystem\n", "posix\nsystem\n", "builtins\neval\n", "torch\nload\n",
                           "torch._utils\n_rebuild_parameter\n", "torchao.quantization\nInt8Tensor\n"}) {
    const std::string program =
        "\x80\x02"
        "c" +
        std::string(name) + Text("touch /tmp/x") + "\x85R.";
    std::string dotted = name;
    dotted.pop_back();
    dotted[dotted.find('\n')] = '.';
    EXPECT_THAT(Error(Archive(program)), HasSubstr("the global '" + dotted + "' is not one of those"));
  }
}

// {"a.weight": AffineQuantizedTensor {tensor_impl, zero_point_domain}} as torchao 0.12 writes it.
std::string AffineProgram(const std::string& impl_class, int domain, bool transposed, const std::string& layout_class) {
  const std::string module = "torchao.dtypes.uintx.tensor_core_tiled_layout\n";
  const auto wrapper = [](const std::string& type, const std::string& sizes, const std::string& state) {
    return "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_wrapper_subclass\n" + type + "(" + type +
           "ctorch\nbfloat16\n" + sizes + "K\x01K\x01\x86K" + std::string(1, '\0') +
           "ctorch.serialization\n_get_layout\n" + Text("torch.strided") + "\x85Rctorch\ndevice\n" + Text("cuda") +
           "K" + std::string(1, '\0') + "\x86R\x89t}(" + state + "utR";
  };
  const auto tensor = [](const std::string& storage) {
    return "ctorch._utils\n_rebuild_tensor_v2\n((" + Text("storage") + storage + Text("0") + Text("cuda:0") +
           "K\x04tQK" + std::string(1, '\0') + "K\x02K\x02\x86K\x02K\x01\x86\x89" + "ccollections\nOrderedDict\n)RtR";
  };
  const std::string layout = "c" + layout_class + "\n)\x81}" + Text("inner_k_tiles") + "K\x08sb";
  const std::string impl = wrapper("c" + module + impl_class + "\n", "K\x02K\x02\x86",
                                   Text("packed_weight") + tensor("ctorch\nIntStorage\n") + Text("scale_and_zero") +
                                       tensor("ctorch\nBFloat16Storage\n") + Text("transposed") +
                                       (transposed ? "\x88" : "\x89") + Text("_layout") + layout);
  return "\x80\x02}" + Text("a.weight") +
         wrapper("ctorchao.dtypes.affine_quantized_tensor\nAffineQuantizedTensor\n", "K\x07K\x09\x86",
                 Text("tensor_impl") + impl + Text("quant_max") + "K\x0f" + Text("zero_point_domain") +
                     "ctorchao.quantization.quant_primitives\nZeroPointDomain\nK" +
                     std::string(1, static_cast<char>(domain)) + "\x85R") +
         "s.";
}

TEST_F(MadePickleTest, ReadsAffineQuantizedTensors) {
  const std::string impl = "TensorCoreTiledAQTTensorImpl";
  const std::string layout = "torchao.dtypes.uintx.tensor_core_tiled_layout\nTensorCoreTiledLayout";
  ASSERT_EQ(Error(Archive(AffineProgram(impl, 2, false, layout))), "");
  const TensorTable table = OpenTorchPickle(file_);
  EXPECT_EQ(table.Get("a._weight_qdata").dtype, "I32");
  EXPECT_EQ(table.Get("a._weight_scale_and_zero").dtype, "BF16");
  EXPECT_EQ(table.tensors().size(), 2u);
  EXPECT_THAT(table.metadata().at("a.weight"), HasSubstr("[7,9]"));

  EXPECT_THAT(Error(Archive(AffineProgram("PlainAQTTensorImpl", 2, false, layout))),
              HasSubstr("the global 'torchao.dtypes.uintx.tensor_core_tiled_layout.PlainAQTTensorImpl' is not one"));
  EXPECT_THAT(Error(Archive(AffineProgram("TensorCoreTiledLayout", 2, false, layout))),
              HasSubstr("holds no TensorCoreTiledAQTTensorImpl"));
  EXPECT_THAT(Error(Archive(AffineProgram(impl, 1, false, layout))), HasSubstr("zero points that are not floats"));
  EXPECT_THAT(Error(Archive(AffineProgram(impl, 2, true, layout))), HasSubstr("is transposed"));
  // Only a layout is made without its function being called.
  EXPECT_THAT(Error(Archive(AffineProgram(impl, 2, false, "collections\nOrderedDict"))),
              HasSubstr("makes an object of no known class"));
}

TEST_F(MadePickleTest, RefusesTensorsOutsideTheirStorage) {
  EXPECT_EQ(Error(Archive(Program())), "");  // the control
  EXPECT_THAT(Error(Archive(Program(5))), HasSubstr("has 16 bytes for 5 elements of F32"));
  EXPECT_THAT(Error(Archive(Program(-1))), HasSubstr("for -1 elements"));
  EXPECT_THAT(Error(Archive(Program(3))), HasSubstr("lies outside its storage"));
  EXPECT_THAT(Error(Archive(Program(4, 1))), HasSubstr("lies outside its storage"));
  EXPECT_THAT(Error(Archive(Program(4, -1))), HasSubstr("lies outside its storage"));
  EXPECT_THAT(Error(Archive(Program(4, 0, "K\x01K\x02\x86"))), HasSubstr("is not contiguous"));
  EXPECT_THAT(Error(Archive(Program(4, 0, "K\x01\x85"))), HasSubstr("another number of sizes"));
  EXPECT_THAT(Error(Archive(Program(4, 0, "K\x02K\x01\x86", "ctorch\nbfloat16\n"))), HasSubstr("is not a storage"));
}

TEST_F(MadePickleTest, RefusesProgramsThatTorchDoesNotWrite) {
  const std::string good = Program();
  for (std::size_t cut = 0; cut < good.size(); ++cut) {
    EXPECT_NE(Error(Archive(good.substr(0, cut))), "") << cut;
  }
  EXPECT_THAT(Error(Archive("\x80\x04.")), HasSubstr("protocol 4"));
  EXPECT_THAT(Error(Archive("\x80\x02i.")), HasSubstr("opcode 105"));
  EXPECT_THAT(Error(Archive("\x80\x02.")), HasSubstr("nothing is left"));
  EXPECT_THAT(Error(Archive("\x80\x02K\x01.")), HasSubstr("does not hold a dict"));
  EXPECT_THAT(Error(Archive("\x80\x02}(.")), HasSubstr(""));
  EXPECT_THAT(Error(Archive("\x80\x02t.")), HasSubstr("no mark"));
  EXPECT_THAT(Error(Archive("\x80\x02h\x05.")), HasSubstr("no entry 5"));
  EXPECT_THAT(Error(Archive("\x80\x02}(K\x01u.")), HasSubstr("a key without a value"));
  EXPECT_THAT(Error(Archive("\x80\x02]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a.")),
              HasSubstr("does not hold a dict"));  // a list inside itself
  EXPECT_THAT(Error(Archive("\x80\x02K\x01K\x01R.")), HasSubstr("calls what is no function"));
  EXPECT_THAT(Error(Archive("\x80\x02}K\x01K\x02s.")), HasSubstr("key of a tensor is not a string"));
  EXPECT_THAT(Error(Archive("\x80\x02}" + Text("w") + "K\x02s.")), HasSubstr("'w' is neither a tensor"));
}

TEST_F(MadePickleTest, RefusesDamagedArchives) {
  const std::string good = Archive(Program());
  ASSERT_EQ(Error(good), "");
  EXPECT_THAT(Error(good.substr(0, good.size() - 1)), HasSubstr("no end of the central directory"));
  EXPECT_THAT(Error("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q"),
              HasSubstr("is in PyTorch's format from before version 1.6"));
  EXPECT_THAT(Error("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
              HasSubstr("is a Git LFS pointer, not the file itself"));
  EXPECT_THAT(Error("short"), HasSubstr("only 5 bytes"));
  EXPECT_THAT(Error(Zip({{"m/other", "x"}})), HasSubstr("no data.pkl"));
  EXPECT_THAT(Error(Zip({{"m/data.pkl", Program(), 8}})), HasSubstr("is compressed"));
  EXPECT_THAT(Error(Zip({{"m/data.pkl", "x"}, {"m/data.pkl", "x"}})), HasSubstr("is there twice"));
  EXPECT_THAT(Error(Zip({{"m/data.pkl", Program()}, {"m/byteorder", "big"}})), HasSubstr("byte order 'big'"));
  EXPECT_THAT(Error(Zip({{"m/data.pkl", Program()}})), HasSubstr("no entry for the storage '0'"));
}

// Every byte of the directory, changed: an error or the same tensors, never a
// read outside of the file (under the address sanitizer).
TEST_F(MadePickleTest, ChangedBytesNeverLeadOutside) {
  for (const bool zip64 : {false, true}) {
    const std::string good = Archive(Program(), zip64);
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (const char flip : {'\x01', '\x80', '\xff'}) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ flip);
        WriteFile(file_, bad);
        try {
          const TensorTable table = OpenTorchPickle(file_);
          for (const auto& [name, tensor] : table.tensors()) {
            volatile std::byte last = tensor.data.empty() ? std::byte{0} : tensor.data.back();
            (void)last;
          }
        } catch (const CheckpointError& error) {
          EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        }
      }
    }
  }
}

}  // namespace
}  // namespace suites
