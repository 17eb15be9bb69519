// The BPE model of a tokenizer.json: bytes of one word to token ids.
#ifndef SUITES_TOKENIZER_BPE_H_
#define SUITES_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace suites {

class Bpe {
 public:
  // `model` is the "model" object of `file`. Throws CheckpointError where it is
  // not a byte-level BPE or a merge names a token that the vocabulary lacks.
  Bpe(const std::string& file, const nlohmann::json& model);

  // Appends the ids of one pre-token. A byte that the vocabulary lacks is left
  // out, as Hugging Face does without an unk_token. O(n log n) for n bytes.
  void Encode(std::string_view word, std::vector<std::int64_t>* ids) const;

  // As written in the file, "Ġthe" -> id.
  const std::unordered_map<std::string, std::int32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t id;
  };

  static std::uint64_t Pair(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  void ReadMerges(const std::string& file, const nlohmann::json& merges);

  std::unordered_map<std::string, std::int32_t> vocabulary_;
  std::unordered_map<std::string, std::int32_t> whole_words_;  // by bytes; filled for ignore_merges
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::int32_t, 256> id_of_byte_{};  // -1: not in the vocabulary
};

}  // namespace suites

#endif  // SUITES_TOKENIZER_BPE_H_
