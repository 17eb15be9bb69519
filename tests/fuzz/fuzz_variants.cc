// A table of variants.
#include "suites/int4/variant.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::Write("variants.json", fuzz::Text(data, size));
  fuzz::Accepts<suites::VariantError>([&] {
    const auto variants = suites::ReadVariants(path);
    if (variants.empty()) fuzz::Die("an empty table was taken");
    fuzz::Use(suites::SelectVariants(variants, {variants.back().id}));
  });
  return 0;
}
