// A ZIP archive, then the same bytes as a pytorch_model.bin.
#include "suites/checkpoint/torch_pickle.h"
#include "suites/checkpoint/zip_archive.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::Write("pytorch_model.bin", fuzz::Text(data, size));
  const bool zip = fuzz::Accepts<suites::CheckpointError>([&] {
    const suites::ZipArchive archive = suites::OpenZip(path);
    for (const auto& [name, bytes] : archive.entries) fuzz::Use(fuzz::Touch(bytes));
  });
  if (!zip) return 0;
  fuzz::Accepts<suites::CheckpointError>([&] {
    const auto table = suites::OpenTorchPickle(path);
    for (const auto& [name, tensor] : table.tensors()) fuzz::Use(fuzz::Touch(tensor.data));
  });
  return 0;
}
