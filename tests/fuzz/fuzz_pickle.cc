// The pickle program of a pytorch_model.bin, with a few storages beside it.
#include <cstring>
#include <vector>

#include "suites/checkpoint/torch_pickle.h"
#include "tests/fuzz/fuzz.h"

namespace {

// A ZIP archive of stored entries.
class ZipWriter {
 public:
  void Add(std::string_view name, std::string_view bytes) {
    const auto offset = static_cast<std::uint32_t>(archive_.size());
    Put(archive_, std::uint32_t{0x04034b50});
    archive_.append(14, '\0');  // version, flags, method, time, checksum: not read
    Put(archive_, static_cast<std::uint32_t>(bytes.size()));
    Put(archive_, static_cast<std::uint32_t>(bytes.size()));
    Put(archive_, static_cast<std::uint32_t>(name.size()));  // and no extra field
    archive_.append(name).append(bytes);
    Put(directory_, std::uint32_t{0x02014b50});
    directory_.append(16, '\0');
    Put(directory_, static_cast<std::uint32_t>(bytes.size()));
    Put(directory_, static_cast<std::uint32_t>(bytes.size()));
    Put(directory_, static_cast<std::uint32_t>(name.size()));
    directory_.append(10, '\0');
    Put(directory_, offset);
    directory_.append(name);
    ++entries_;
  }
  std::string Finish() const {
    std::string whole = archive_ + directory_;
    Put(whole, std::uint32_t{0x06054b50});
    Put(whole, std::uint32_t{0});
    Put(whole, entries_);
    Put(whole, entries_);
    Put(whole, static_cast<std::uint32_t>(directory_.size()));
    Put(whole, static_cast<std::uint32_t>(archive_.size()));
    Put(whole, std::uint16_t{0});
    return whole;
  }

 private:
  template <typename T>
  static void Put(std::string& out, T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    out.append(bytes, sizeof value);
  }
  std::string archive_, directory_;
  std::uint16_t entries_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ZipWriter zip;
  zip.Add("m/data.pkl", fuzz::Text(data, size));
  zip.Add("m/byteorder", "little");
  zip.Add("m/data/0", std::string(64, '\1'));
  zip.Add("m/data/1", std::string(4096, '\2'));
  zip.Add("m/data/2", "");
  const auto path = fuzz::Write("pytorch_model.bin", zip.Finish());
  fuzz::Accepts<suites::CheckpointError>([&] {
    const auto table = suites::OpenTorchPickle(path);
    for (const auto& [name, tensor] : table.tensors()) fuzz::Use(fuzz::Touch(tensor.data));
  });
  return 0;
}
