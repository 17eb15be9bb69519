#include "suites/int4/logit_dump.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

void WriteRows(std::ostream& out, const LogitRows& logits) {
  for (std::int64_t row = 0; row < logits.rows && out; ++row) {
    const std::vector<float> values = logits.Row(row);
    out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  }
}

}  // namespace

void DumpLogits(const std::filesystem::path& file, const Generation& generation) {
  const auto bytes = [](const LogitRows& logits) { return static_cast<std::uint64_t>(logits.rows * logits.vocab) * sizeof(float); };
  const auto entry = [](const LogitRows& logits, std::uint64_t begin, std::uint64_t end) {
    return nlohmann::ordered_json{{"dtype", "F32"}, {"shape", {logits.rows, logits.vocab}}, {"data_offsets", {begin, end}}};
  };
  const std::uint64_t middle = bytes(generation.prompt_logits);
  const std::uint64_t end = middle + bytes(generation.step_logits);
  std::string header = nlohmann::ordered_json{{"prompt_logits", entry(generation.prompt_logits, 0, middle)},
                                              {"step_logits", entry(generation.step_logits, middle, end)}}
                           .dump();
  header.append((8 - header.size() % 8) % 8, ' ');
  const std::uint64_t header_bytes = header.size();

  const std::filesystem::path temporary = file.string() + ".tmp" + std::to_string(getpid());
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  errno = 0;
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    // A u64, little-endian, as on every machine that this builds for.
    out.write(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    WriteRows(out, generation.prompt_logits);
    WriteRows(out, generation.step_logits);
    out.flush();
    if (!out) error = std::error_code(errno == 0 ? EIO : errno, std::generic_category());
  }
  if (!error) std::filesystem::rename(temporary, file, error);
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw CheckpointError(file.string() + ": the logits cannot be written (" + error.message() + "); choose another folder with --dump-logits");
  }
}

}  // namespace suites
