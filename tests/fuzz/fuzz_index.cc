// A model.safetensors.index.json beside two shards, one.safetensors with the
// tensor "a" and two.safetensors with "b".
#include "suites/checkpoint/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool shards = [] {
    const std::byte byte{7};
    for (const auto& [file, name] : {std::pair{"one.safetensors", "a"}, std::pair{"two.safetensors", "b"}}) {
      suites::WriteSafetensors(fuzz::Folder() / file, {{name, "U8", {1}, std::span(&byte, 1)}});
    }
    return true;
  }();
  fuzz::Use(shards);
  fuzz::Write("model.safetensors.index.json", fuzz::Text(data, size));
  fuzz::Accepts<suites::CheckpointError>([&] {
    const auto table = suites::SafetensorsReader::Open(fuzz::Folder());
    for (const auto& [name, tensor] : table.tensors()) fuzz::Use(fuzz::Touch(tensor.data));
  });
  return 0;
}
