// Tensors of a quantized checkpoint, encoded from full-precision weights.
#ifndef SUITES_QUANTIZE_LINEAR_FORMATS_H_
#define SUITES_QUANTIZE_LINEAR_FORMATS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "suites/checkpoint/safetensors.h"
#include "suites/quantize/weight_source.h"

namespace suites::quantize {

enum class OutputFormat : std::uint8_t {
  kAwq,       // AutoAWQ, version gemm, with zero points, float16
  kGptq,      // GPTQ, sym, without desc_act, checkpoint_format gptq, float16
  kTorchao,   // torchao Int4TilePackedTo4dTensor in safetensors, bfloat16
  kOpenVino,  // OpenVINO IR, u4 with u4 zero points, float16
};
std::string_view NameOf(OutputFormat format);  // "awq", ...
std::optional<OutputFormat> ParseOutputFormat(std::string_view name);

// The tensors that `tensor` becomes, in file order. A linear layer
// "<mod>.weight" [N, K] becomes
//   awq       <mod>.qweight I32 [K, N/8], .qzeros I32 [K/G, N/8], .scales F16 [K/G, N]
//   gptq      <mod>.g_idx I32 [K], .qweight I32 [K/8, N], .qzeros I32 [K/G, N/8], .scales F16 [K/G, N]
//   torchao   <mod>._weight_qdata I32 [N/8, Kpad/128, 32, 4], ._weight_scale_and_zero BF16 [Kpad/G, N, 2]
//   openvino  <mod>.weight U4 [N, K/G, G], .weight/zero_point U4 [N, K/G, 1], .weight/scale F16 [N, K/G, 1]
// every other tensor itself in the format's half precision (openvino: vectors F32).
// Throws CheckpointError where K is not a multiple of G or N not one of 8.
std::vector<TensorHeader> HeadersFor(OutputFormat format, const TensorInfo& tensor, std::int64_t group_size);

// Bytes in memory that is not set beforehand.
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(std::size_t size) : data_(std::make_unique_for_overwrite<std::byte[]>(size)), size_(size) {}
  std::byte* data() { return data_.get(); }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
};

// A tensor that is being encoded: tasks that may run in any order, each once, from
// any thread. The bytes do not depend on that order.
class Encoding {
 public:
  virtual ~Encoding() = default;
  virtual std::int64_t tasks() const = 0;
  // Throws CheckpointError that names the tensor: NaN, infinity, values beyond float16.
  virtual void Run(std::int64_t task) = 0;
  // After all tasks: the bytes of the tensors of HeadersFor(), in that order.
  virtual std::vector<Bytes> Take() = 0;
};
struct RowRange {
  std::int64_t begin = 0, end = 0;
};
// A linear layer is encoded as a whole, of another tensor the rows asked for.
// Keeps a reference to `source`.
std::unique_ptr<Encoding> BeginEncoding(OutputFormat format, const WeightSource& source, const TensorInfo& tensor,
                                        std::int64_t group_size, RowRange rows);

// All of it at once. The same for any number of threads. Throws
// CheckpointError that names the tensor: NaN, infinity, values beyond float16.
std::vector<std::vector<std::byte>> Encode(OutputFormat format, const WeightSource& source, const TensorInfo& tensor,
                                           std::int64_t group_size, int threads);

// Bytes of a tensor; two U4 share one.
std::uint64_t BytesOf(const TensorHeader& header);

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_LINEAR_FORMATS_H_
