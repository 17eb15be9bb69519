// A result file: read, compared with itself, written as a table.
#include <sstream>

#include "reporters/analysis.h"
#include "reporters/analysis_text.h"
#include "reporters/result_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::Write("result.json", fuzz::Text(data, size));
  fuzz::Accepts<reporters::ResultFileError>([&] {
    const auto file = reporters::ReadResultFile(path);
    const auto other = reporters::ReadResultFile(path);
    const auto analysis = reporters::Analyze({file, other}, {.across_devices = true, .across_models = true});
    std::ostringstream out;
    reporters::WriteAnalysis(out, {file, other}, analysis);
    for (const char c : out.str()) {
      if (static_cast<unsigned char>(c) < 0x20 && c != '\n') fuzz::Die("a control byte of the file reached the table");
    }
  });
  return 0;
}
