// Loading: nothing is copied, how far it is, what stays in resident memory.
#include "suites/checkpoint/load_watch.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "suites/checkpoint/checkpoint.h"
#include "suites/checkpoint/finite.h"
#include "suites/checkpoint/qwen3_tensors.h"
#include "suites/checkpoint/safetensors.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using testing_support::EditHeader;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

// Everything that a loader asks for, once.
std::vector<std::pair<std::string, at::Tensor>> AskForAll(const Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  const Qwen3Tensors expected = TensorsOf(checkpoint.config());
  for (const auto& [name, shape] : expected.dense) tensors.emplace_back(name, checkpoint.Dense(name));
  for (const auto& [module, shape] : expected.linear) {
    if (!checkpoint.IsQuantized(module)) {
      tensors.emplace_back(module, checkpoint.Dense(module + ".weight"));
      continue;
    }
    const kernels::QuantizedLinear linear = checkpoint.Quantized(module);
    for (const at::Tensor& part : {linear.qweight, linear.qzeros, linear.scales, linear.g_idx}) {
      if (part.defined()) tensors.emplace_back(module, part);
    }
  }
  return tensors;
}

std::vector<std::string> Copies(const Checkpoint& checkpoint) {
  std::vector<std::string> copies;
  for (const auto& [name, tensor] : AskForAll(checkpoint)) {
    if (!MappedFile::Find(tensor.const_data_ptr(), tensor.nbytes())) copies.push_back(name);
  }
  return copies;
}

TEST(LoadingTest, TensorsAreViewsOfTheFiles) {
  for (const char* format : {"awq", "gptq_desc_act", "torchao"}) {
    EXPECT_THAT(Copies(*OpenCheckpoint(TestData() / "checkpoints" / format)), testing::IsEmpty()) << format;
  }
  EXPECT_THAT(Copies(*OpenCheckpoint(TestData() / "../../suites/models/tiny_qwen3")), testing::IsEmpty());
}

TEST(LoadingTest, TensorsOfShardsAreViewsToo) {
  const ScratchFolder folder;
  const SafetensorsReader reader = SafetensorsReader::Open(TestData() / "checkpoints/awq");
  std::vector<TensorToWrite> shards[2];
  nlohmann::json weight_map;
  for (const auto& [name, tensor] : reader.tensors()) {
    const std::size_t shard = weight_map.size() % 2;
    shards[shard].push_back({name, tensor.dtype, tensor.shape, tensor.data});
    weight_map[name] = shard == 0 ? "a.safetensors" : "b.safetensors";
  }
  WriteSafetensors(folder.path() / "a.safetensors", shards[0]);
  WriteSafetensors(folder.path() / "b.safetensors", shards[1]);
  WriteFile(folder.path() / "model.safetensors.index.json", nlohmann::json{{"weight_map", weight_map}}.dump());
  std::filesystem::copy_file(TestData() / "checkpoints/awq/config.json", folder.path() / "config.json");
  EXPECT_THAT(Copies(*OpenCheckpoint(folder.path())), testing::IsEmpty());
}

// Control: data at odd addresses can only be copied, and that is seen.
TEST(LoadingTest, UnalignedTensorsAreCopied) {
  const ScratchFolder folder;
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(TestData() / "checkpoints/awq" / name, folder.path() / name);
  }
  const auto weights = folder.path() / "model.safetensors";
  EditHeader(weights, [](nlohmann::json* header) { (*header)["__metadata__"]["x"] = ""; });
  std::uint64_t length = 0;
  const std::string bytes = testing_support::ReadFile(weights);
  std::memcpy(&length, bytes.data(), 8);
  const std::string padding(length % 2 == 0 ? 1 : 2, ' ');  // the data begin at an odd byte
  WriteFile(weights, testing_support::LengthBytes(length + padding.size()) + bytes.substr(8, length) + padding +
                         bytes.substr(8 + length));
  EXPECT_GT(Copies(*OpenCheckpoint(folder.path())).size(), 20u);
}

TEST(LoadingTest, ProgressEndsAtTheBytesOfTheModel) {
  for (const char* format : {"awq", "gptq_desc_act", "torchao"}) {
    const auto checkpoint = OpenCheckpoint(TestData() / "checkpoints" / format);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> calls;
    checkpoint->SetProgress([&](std::uint64_t done, std::uint64_t total) { calls.emplace_back(done, total); });
    EXPECT_TRUE(calls.empty());
    std::uint64_t bytes = 0;
    std::size_t last = 0;
    const auto tensors = AskForAll(*checkpoint);
    for (const auto& [name, tensor] : tensors) {
      bytes += tensor.nbytes();
      if (name == tensors.back().first) last += tensor.nbytes();
    }
    ASSERT_GT(calls.size(), 10u);
    EXPECT_EQ(calls.front().first, 0u);
    for (std::size_t i = 1; i < calls.size(); ++i) {
      EXPECT_GT(calls[i].first, calls[i - 1].first);
      EXPECT_EQ(calls[i].second, bytes) << "all the same";
    }
    EXPECT_EQ(calls.back().first, bytes - last) << "the last was not asked for again";
    // Asked for once more, tensors do not count again.
    AskForAll(*checkpoint);
    EXPECT_EQ(calls.back(), (std::pair{bytes, bytes}));
    checkpoint->SetProgress({});
    const std::size_t count = calls.size();
    AskForAll(*checkpoint);
    EXPECT_EQ(calls.size(), count);
  }
}

// Resident bytes of the mapping that begins at `address`.
std::uint64_t Resident(const void* address) {
  char begin[32];
  std::snprintf(begin, sizeof begin, "%lx-", reinterpret_cast<unsigned long>(address));
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool inside = false;
  while (std::getline(smaps, line)) {
    if (line.find('-') != std::string::npos && line.find(" r") != std::string::npos) inside = line.starts_with(begin);
    if (inside && line.starts_with("Rss:")) return std::stoull(line.substr(4)) * 1024;
  }
  return ~std::uint64_t{0};
}

class ResidentTest : public testing::Test {
 protected:
  static constexpr std::size_t kTensor = 4 << 20, kTensors = 12;
  void SetUp() override {
    std::string text;
    for (std::size_t i = 0; i < kTensor * kTensors; ++i) text += static_cast<char>(i * 31 >> 3);
    WriteFile(folder_.path() / "weights", text);
    file_ = MappedFile::Open(folder_.path() / "weights", 1, "test");
    ASSERT_NE(Resident(file_->bytes().data()), ~std::uint64_t{0}) << "the mapping is not in /proc/self/smaps";
  }
  // Asks for each tensor and reads it; the sum of its bytes.
  std::uint64_t Load(LoadWatch* watch, std::size_t i) const {
    auto* const data = const_cast<std::byte*>(file_->bytes().data() + i * kTensor);
    const at::Tensor tensor = at::from_blob(data, {static_cast<std::int64_t>(kTensor)}, at::kByte);
    if (watch != nullptr) watch->HandedOut(std::to_string(i), {&tensor, 1});
    std::uint64_t sum = 0;
    for (std::size_t k = 0; k < kTensor; ++k) sum += std::to_integer<std::uint64_t>(data[k]);
    return sum;
  }
  ScratchFolder folder_;
  std::shared_ptr<const MappedFile> file_;
};

TEST_F(ResidentTest, PagesOfWhatWasLoadedAreGivenBack) {
  std::vector<std::uint64_t> sums;
  for (std::size_t i = 0; i < kTensors; ++i) sums.push_back(Load(nullptr, i));
  EXPECT_EQ(Resident(file_->bytes().data()), kTensor * kTensors) << "control: without a watch all of it is there";
  LoadWatch watch(2 * kTensor);
  std::uint64_t most = 0;
  file_->Release(0, file_->bytes().size());
  EXPECT_EQ(Resident(file_->bytes().data()), 0u);
  for (std::size_t i = 0; i < kTensors; ++i) {
    EXPECT_EQ(Load(&watch, i), sums[i]);
    most = std::max(most, Resident(file_->bytes().data()));
  }
  // The newest, two that are kept, and what the kernel maps around a fault: up to
  // a folio of 2 MiB at each end of a tensor.
  EXPECT_LE(most, 5 * kTensor);
  EXPECT_GE(most, 2 * kTensor);
  for (std::size_t i = 0; i < kTensors; ++i) EXPECT_EQ(Load(nullptr, i), sums[i]) << "nothing is lost";
}

// A large tensor of an embedding's kind is looked through for NaN without staying resident, and
// the first one is found whichever thread comes first.
TEST_F(ResidentTest, ALargeTensorThatWasLookedThroughIsNotThere) {
  constexpr std::int64_t kElements = kTensor * kTensors / 2;
  std::vector<std::uint16_t> numbers(static_cast<std::size_t>(kElements), 0x3c00);
  const auto write = [&] {
    file_.reset();
    WriteFile(folder_.path() / "weights", {reinterpret_cast<const char*>(numbers.data()), numbers.size() * 2});
    file_ = MappedFile::Open(folder_.path() / "weights", 1, "test");
    return at::from_blob(const_cast<std::byte*>(file_->bytes().data()), {kElements}, at::kHalf);
  };
  at::Tensor tensor = write();
  EXPECT_EQ(FirstNotFinite(tensor), std::nullopt);
  EXPECT_LE(Resident(file_->bytes().data()), 4u << 20);  // what the kernel maps around a fault
  EXPECT_EQ(FirstNotFinite(tensor.clone()), std::nullopt);
  EXPECT_TRUE(at::equal(tensor, at::full_like(tensor, 1))) << "nothing is lost";
  EXPECT_EQ(Resident(file_->bytes().data()), kTensor * kTensors) << "control: who reads it has it there";
  for (const std::int64_t at : {std::int64_t{0}, std::int64_t{(8 << 20) - 1}, std::int64_t{8 << 20}, kElements - 1}) {
    numbers[static_cast<std::size_t>(at)] = 0x7c00;
    numbers.back() = 0x7e00;
    EXPECT_EQ(FirstNotFinite(write()), at);
    numbers[static_cast<std::size_t>(at)] = 0x3c00;
  }
}

}  // namespace
}  // namespace suites
