// The references of tests/data/checkpoints/*/reference, and where the models lie.
#ifndef TESTS_SUITES_MODEL_REFERENCE_H_
#define TESTS_SUITES_MODEL_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "suites/checkpoint/safetensors.h"
#include "suites/model/generation.h"

namespace suites {

// The environment's, for a test that runs on another machine than it was built on.
inline std::filesystem::path SourceFolder() {
  const char* const given = std::getenv("GTEST_DETERMINISM_SOURCE_DIR");
  return given != nullptr ? given : GTEST_DETERMINISM_SOURCE_DIR;
}
inline std::filesystem::path TinyModelFolder() { return SourceFolder() / "suites/models/tiny_qwen3"; }
inline std::filesystem::path TestCheckpoint(const std::string& name) {
  return SourceFolder() / "tests/data/checkpoints" / name;
}

struct ReferencePrompt {
  std::vector<std::int64_t> prompt_ids, generated_ids;
  std::vector<std::vector<std::int64_t>> top10_ids;
  std::vector<std::vector<float>> top10_logprobs;
  double prompt_mean_nll = 0;
  std::size_t robust_prefix = 0, robust_prefix_fp32 = 0;
};

inline ReferencePrompt ReadReference(const std::string& checkpoint, const std::string& prompt) {
  std::ifstream file(TestCheckpoint(checkpoint) / "reference/reference.json");
  const auto json = nlohmann::json::parse(file).at("prompts").at(prompt);
  ReferencePrompt reference;
  json.at("prompt_ids").get_to(reference.prompt_ids);
  json.at("generated_ids").get_to(reference.generated_ids);
  json.at("top10_ids").get_to(reference.top10_ids);
  json.at("top10_logprobs").get_to(reference.top10_logprobs);
  json.at("prompt_mean_nll").get_to(reference.prompt_mean_nll);
  json.at("robust_prefix_len").get_to(reference.robust_prefix);
  json.at("robust_prefix_len_fp32").get_to(reference.robust_prefix_fp32);
  return reference;
}

inline std::vector<float> ReadReferenceLogits(const std::string& checkpoint, const std::string& tensor) {
  const auto reader = SafetensorsReader::Open(TestCheckpoint(checkpoint) / "reference/reference_logits.safetensors");
  const StoredTensor& stored = reader.Get(tensor);
  std::vector<float> values(stored.data.size() / sizeof(float));
  std::memcpy(values.data(), stored.data.data(), stored.data.size());
  return values;
}

inline std::vector<float> AllRows(const LogitRows& rows) {
  std::vector<float> values;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const std::vector<float> one = rows.Row(row);
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

// NaN where the sizes differ or a value is not a number: no bound holds for it.
inline double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::nan("");
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, difference);
  }
  return largest;
}

inline double RootMeanSquareDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || a.empty()) return std::nan("");
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    squares += difference * difference;
  }
  return std::sqrt(squares / static_cast<double>(a.size()));
}

// Mean of -log p(ids[i + 1]) under row i.
inline double MeanNll(const LogitRows& rows, const std::vector<std::int64_t>& ids) {
  double sum = 0;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    sum -= ChooseToken(rows.Row(static_cast<std::int64_t>(i)), ids[i + 1]).logprob;
  }
  return sum / static_cast<double>(ids.size() - 1);
}

}  // namespace suites

#endif  // TESTS_SUITES_MODEL_REFERENCE_H_
