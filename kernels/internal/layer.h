// Checks and unpacked parts of a QuantizedLinear, for the makers of kernels.
#ifndef KERNELS_INTERNAL_LAYER_H_
#define KERNELS_INTERNAL_LAYER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"

namespace kernels::internal {

// Throws std::invalid_argument: the layer's name, format and sizes, then `what`.
[[noreturn]] void Refuse(const QuantizedLinear& linear, const std::string& what);

// Every tensor has the dtype and shape that the format prescribes. kAny: scales
// of AWQ and GPTQ may also be bfloat16 or float32, which no kernel takes.
enum class Scales : std::uint8_t { kHalf, kAny };
void CheckLayer(const QuantizedLinear& linear, Scales scales = Scales::kHalf);

// The layer with its tensors on `device`; those that are there already are shared.
QuantizedLinear OnDevice(const QuantizedLinear& linear, at::Device device);

// desc_act: rows of one group lie apart. As exllama and Marlin do, the kernels sort
// the rows by group once and gather the columns of x in each call: row i of theirs
// is row order[i] of the checkpoint. Empty where the rows are sorted already.
// Refuses a g_idx that does not give each group its number of rows.
std::vector<std::int64_t> RowOrder(const QuantizedLinear& linear);

void CheckGroups(const QuantizedLinear& linear);  // the kernels built here: a multiple of 8
[[noreturn]] void RefuseFormat(const QuantizedLinear& linear, const KernelIdentity& identity, const char* reads);

// Codes 0..15, row-major [K, N], padding dropped, rows in the checkpoint's order.
// This and ZerosOf(): host memory only.
std::vector<std::uint8_t> CodesOf(const QuantizedLinear& linear);
// Integer zero points [K/G, N]; 8 for the torchao formats, whose offset is a float.
std::vector<std::uint8_t> ZerosOf(const QuantizedLinear& linear);

}  // namespace kernels::internal

#endif  // KERNELS_INTERNAL_LAYER_H_
