// Writes a quantized checkpoint folder.
#ifndef SUITES_QUANTIZE_QUANTIZE_H_
#define SUITES_QUANTIZE_QUANTIZE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "suites/quantize/linear_formats.h"
#include "suites/quantize/weight_source.h"

namespace suites::quantize {

struct QuantizeOptions {
  OutputFormat format = OutputFormat::kAwq;
  std::int64_t group_size = 128;  // inputs that share a scale: 32, 64 or 128
  int threads = 0;                // 0: as many as there are cores
  // Largest data section of one safetensors file; 5 GB is what transformers writes.
  std::uint64_t shard_bytes = 5'000'000'000;
  bool overwrite = false;  // replace a folder that exists
  // Called before each tensor; may throw to give up.
  std::function<void(std::size_t done, std::size_t total, const std::string& tensor)> progress = {};
};

struct QuantizeResult {
  std::size_t tensors = 0;  // of the source
  std::uint64_t bytes = 0;  // of weights in the output
  // Seconds that the writing thread waited for encoded tensors, and that it spent
  // in writing: the larger says what bounds the whole. Both 0 for openvino.
  double encoding_wait = 0;
  double writing = 0;
};

// The folder comes to be under a temporary name beside `output` and is renamed;
// where this throws, nothing is left of it. Threads encode ahead of the one that
// writes; at most half a gigabyte of encoded tensors is in memory.
// The bytes of every file depend on the source, the format and the group size
// alone, for openvino also on the version of OpenVINO. Throws CheckpointError:
// a shape that the format does not hold, no space (checked before the start,
// with both figures), a folder that cannot be written.
QuantizeResult Quantize(const WeightSource& source, const std::filesystem::path& output,
                        const QuantizeOptions& options);

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_QUANTIZE_H_
