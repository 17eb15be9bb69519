// A config.json; behind a byte FF, which no JSON has, the quantize_config.json
// that lies beside it.
#include "suites/checkpoint/model_config.h"
#include "suites/checkpoint/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input = fuzz::Text(data, size);
  const std::size_t cut = input.find('\xff');
  fuzz::Write("config.json", input.substr(0, cut));
  if (cut != input.npos) {
    fuzz::Write("quantize_config.json", input.substr(cut + 1));
  } else {
    std::filesystem::remove(fuzz::Folder() / "quantize_config.json");
  }
  fuzz::Accepts<suites::CheckpointError>([&] {
    const auto config = suites::ReadModelConfig(fuzz::Folder());
    if (config.vocab_size < 1 || config.hidden_size < 1 || config.num_hidden_layers < 1 || config.head_dim < 1 ||
        config.num_key_value_heads < 1 || config.num_attention_heads % config.num_key_value_heads != 0) {
      fuzz::Die("a senseless config was taken");
    }
  });
  return 0;
}
