#include "suites/checkpoint/device_upload.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rand.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/torch_cuda.h"
#include "suites/checkpoint/mapped_file.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/checkpoint/tensor_view.h"
#include "suites/checkpoint/upload_rates.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using testing::HasSubstr;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

std::vector<at::Tensor> Views(const std::filesystem::path& model) {
  std::vector<at::Tensor> tensors;
  const SafetensorsReader reader = SafetensorsReader::Open(model);
  for (const auto& [name, stored] : reader.tensors()) tensors.push_back(TensorView(name, stored));
  return tensors;
}

bool SameBytes(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor on_cpu = a.cpu();
  return on_cpu.sizes() == b.sizes() && on_cpu.scalar_type() == b.scalar_type() &&
         (b.nbytes() == 0 || std::memcmp(on_cpu.const_data_ptr(), b.const_data_ptr(), b.nbytes()) == 0);
}

// The ways to a device that run without one, and the device where there is one.
enum class Way { kDirect, kStaged, kCuda };

class EveryWay : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam() == Way::kCuda && kernels::TorchCuda().devices == 0) GTEST_SKIP() << kernels::TorchCuda().reason;
  }
  at::Device device() const { return GetParam() == Way::kCuda ? at::Device(at::kCUDA) : at::Device(at::kCPU); }
  UploadOptions Options(int threads, int buffers, std::size_t buffer_bytes) const {
    return {threads, buffers, buffer_bytes, GetParam() == Way::kStaged};
  }
};

// Buffers that hold many tensors, and of which a tensor needs many; more threads
// than buffers and the reverse.
TEST_P(EveryWay, TensorsArriveAsTheyAre) {
  std::vector<at::Tensor> tensors = Views(TestData() / "checkpoints/awq");
  tensors.push_back(at::empty({0, 4}));
  tensors.push_back(at::arange(1000, at::kDouble));    // not of a file
  tensors.push_back(at::arange(12).view({3, 4}).t());  // not contiguous
  tensors.push_back(tensors[0].slice(0, 1, 3));        // a part of a file
  std::uint64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += tensor.nbytes();
  for (const auto& [threads, buffers, buffer_bytes] :
       {std::tuple{1, 1, 64}, {2, 3, 4096}, {3, 1, 100}, {0, 12, 8 << 20}}) {
    DeviceUploader uploader(device(), Options(threads, buffers, static_cast<std::size_t>(buffer_bytes)));
    const std::vector<at::Tensor> uploaded = uploader.Upload(tensors);
    uploader.Wait();
    ASSERT_EQ(uploaded.size(), tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(uploaded[i].device().type(), device().type());
      EXPECT_TRUE(uploaded[i].is_contiguous());
      EXPECT_TRUE(SameBytes(uploaded[i], tensors[i].contiguous())) << i << " of " << buffer_bytes;
      if (tensors[i].nbytes() > 0) {
        EXPECT_NE(uploaded[i].const_data_ptr(), tensors[i].const_data_ptr()) << "a copy";
      }
    }
    EXPECT_EQ(uploader.stats().bytes, bytes);
    EXPECT_EQ(uploader.stats().tensors, tensors.size());
    EXPECT_GT(uploader.stats().seconds, 0);
    // Control: one bit.
    at::Tensor flipped = tensors[0].clone();
    static_cast<char*>(flipped.mutable_data_ptr())[flipped.nbytes() - 1] ^= 1;
    EXPECT_FALSE(SameBytes(uploaded[0], flipped));
    EXPECT_TRUE(SameBytes(uploader.Upload(flipped), flipped)) << "one tensor";
  }
}

// A file that is cut while it is mapped is an error with its name, where a read
// of the mapping would be a SIGBUS; the uploader goes on.
TEST_P(EveryWay, AFileThatWasCutIsAnError) {
  const ScratchFolder folder;
  const auto path = folder.path() / "model.safetensors";
  std::filesystem::copy_file(TestData() / "checkpoints/awq/model.safetensors", path);
  std::filesystem::permissions(path, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  const std::vector<at::Tensor> views = Views(path);
  DeviceUploader uploader(device(), Options(3, 2, 4096));
  EXPECT_NO_THROW(uploader.Upload(views)) << "control";
  const std::uint64_t before = uploader.stats().bytes;
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  try {
    uploader.Upload(views);
    ADD_FAILURE() << "no error";
  } catch (const CheckpointError& error) {
    EXPECT_EQ(std::string(error.what()), path.string() + ": was cut while it was read");
  }
  EXPECT_EQ(uploader.stats().bytes, before) << "what failed is not counted";
  const at::Tensor other = at::arange(5000);
  EXPECT_TRUE(SameBytes(uploader.Upload(other), other));
}

INSTANTIATE_TEST_SUITE_P(WithoutDevice, EveryWay, testing::Values(Way::kDirect, Way::kStaged), [](const auto& info) {
  return std::string(info.param == Way::kDirect ? "Direct" : "Staged");
});

#if defined(UPLOAD_TEST_CUDA)
INSTANTIATE_TEST_SUITE_P(Device, EveryWay, testing::Values(Way::kCuda), [](const auto&) { return "Cuda"; });

// Work of the current stream before and after an upload keeps its order: memory
// that a running operation still writes is not overtaken by a copy into the same
// block, and the sum below sees the copy.
TEST(DeviceUploadCuda, KeepsTheOrderOfTheCurrentStream) {
  if (kernels::TorchCuda().devices == 0) GTEST_SKIP() << kernels::TorchCuda().reason;
  const at::Device cuda(at::kCUDA, 0);
  DeviceUploader uploader(cuda);
  const at::Tensor ones = at::empty({1 << 22}, at::kFloat).fill_(1);
  for (int round = 0; round < 20; ++round) {
    {
      at::Tensor busy = at::empty({1 << 22}, at::TensorOptions().dtype(at::kFloat).device(cuda));
      for (int i = 0; i < 200; ++i) busy.fill_(-1);
    }  // its block is free for the upload, its kernels are not done
    const at::Tensor uploaded = uploader.Upload(ones);
    EXPECT_EQ(uploaded.sum().item<float>(), 1 << 22) << round;
  }
}
#endif

TEST(DeviceUpload, SaysWhatIsNotThere) {
  const auto error_of = [](at::Device device, const UploadOptions& options) -> std::string {
    try {
      const DeviceUploader uploader(device, options);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of(at::kCPU, {}), "no error");
  EXPECT_THAT(error_of(at::kMeta, {}), HasSubstr("neither a CPU nor CUDA"));
  EXPECT_THAT(error_of(at::kCPU, {.threads = -1}), HasSubstr("at least one buffer"));
  EXPECT_THAT(error_of(at::kCPU, {.buffer_bytes = 1}), HasSubstr("at least one buffer"));
  if (kernels::TorchCuda().devices == 0) {
    EXPECT_THAT(error_of(at::kCUDA, {}), HasSubstr(kernels::TorchCuda().reason));
  }
}

TEST(MappedFileTest, FindsTheFileOfAnAddress) {
  const ScratchFolder folder;
  WriteFile(folder.path() / "a", std::string(10'000, 'a') + "bc");
  auto file = MappedFile::Open(folder.path() / "a", 1, "test");
  const std::byte* const begin = file->bytes().data();
  const auto place = MappedFile::Find(begin + 9'999, 3);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->file, file);
  EXPECT_EQ(place->offset, 9'999u);
  char text[3];
  file->Read(place->offset, 3, text);
  EXPECT_EQ(std::string(text, 3), "abc");
  EXPECT_THROW(file->Read(10'000, 3, text), CheckpointError);
  // Controls: beyond the end, other memory, a file that is gone.
  EXPECT_FALSE(MappedFile::Find(begin + 9'999, 4).has_value());
  EXPECT_FALSE(MappedFile::Find(text, 1).has_value());
  EXPECT_FALSE(MappedFile::Find(nullptr, 1).has_value());
  const std::weak_ptr<const MappedFile> gone = file;
  const auto second = MappedFile::Find(begin, 1);
  file.reset();
  EXPECT_FALSE(gone.expired()) << "a place keeps the file";
}

TEST(UploadRates, CountsWhatItReads) {
  const ScratchFolder folder;
  WriteFile(folder.path() / "b.safetensors", std::string(300'000, 'b'));
  WriteFile(folder.path() / "a.safetensors", std::string(100'001, 'a'));
  WriteFile(folder.path() / "config.json", "{}");
  const auto files = WeightFiles(folder.path());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].filename(), "a.safetensors");
  const TransferRate rate = ReadRate(files, 3, 4096);
  EXPECT_EQ(rate.bytes, 400'001u);
  EXPECT_GT(rate.BytesPerSecond(), 0);
  EXPECT_GE(ResidentBytes(files), 400'001u) << "read just now";
  DropFromPageCache(files);  // a system may keep them: nothing is claimed
  EXPECT_LE(ResidentBytes(files), 409'600u);
  EXPECT_EQ(BusRate(at::kCPU, 1 << 20, 2).bytes, std::uint64_t{1} << 20);
  EXPECT_THROW(ReadRate({folder.path() / "none"}, 1, 4096), CheckpointError);
  std::filesystem::remove_all(folder.path() / "a.safetensors");
  std::filesystem::remove_all(folder.path() / "b.safetensors");
  EXPECT_THROW(WeightFiles(folder.path()), CheckpointError);
}

}  // namespace
}  // namespace suites
