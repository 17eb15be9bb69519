// A .safetensors file.
#include "suites/checkpoint/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::Write("model.safetensors", fuzz::Text(data, size));
  fuzz::Accepts<suites::CheckpointError>([&] {
    const auto table = suites::SafetensorsReader::Open(path);
    for (const auto& [name, tensor] : table.tensors()) fuzz::Use(fuzz::Touch(tensor.data));
  });
  return 0;
}
