// The layouts in which checkpoints store 4-bit codes, as pure functions on
// memory. No tensors, no device.
//
// A matrix of codes is row-major [k, n] (k inputs, n outputs), one code 0..15
// in each byte. Every function throws std::invalid_argument with one line where
// a size does not fit or a code is above 15.
#ifndef KERNELS_INT4_PACK_H_
#define KERNELS_INT4_PACK_H_

#include <cstdint>
#include <span>
#include <vector>

namespace kernels {

// Position i of an AWQ word (bits 4i..4i+3) holds column 8c + kAwqOrder[i].
// The interleave lets a GPU expand a word to half2 pairs with two masks and one
// shift (AWQ, https://github.com/mit-han-lab/llm-awq).
inline constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

// --- AWQ "gemm" (AutoAWQ): along N, interleaved. The zero points [k / group, n]
// --- are packed by the same functions.
// Returns I32 [k, n / 8]; n must be a multiple of 8.
std::vector<std::int32_t> PackAwq(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n);
// Takes I32 [k, n / 8], returns codes [k, n].
std::vector<std::uint8_t> UnpackAwq(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n);

// --- GPTQ (AutoGPTQ, GPTQModel): codes along K, zero points along N, in order.
// Returns I32 [k / 8, n]; k must be a multiple of 8.
std::vector<std::int32_t> PackGptq(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n);
std::vector<std::uint8_t> UnpackGptq(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n);
// Returns I32 [groups, n / 8]; n must be a multiple of 8. `v1`: the format
// "gptq" of AutoGPTQ, which stores z - 1 by subtracting 0x11111111 from the
// whole word, so that a zero point of 0 borrows from its neighbour; false is
// "gptq_v2", which stores z.
std::vector<std::int32_t> PackGptqZeros(std::span<const std::uint8_t> zeros, std::int64_t groups, std::int64_t n,
                                        bool v1);
std::vector<std::uint8_t> UnpackGptqZeros(std::span<const std::int32_t> words, std::int64_t groups, std::int64_t n,
                                          bool v1);

// --- torchao Int4TilePackedTo4dTensor: the tensor-core tiles of
// --- at::_convert_weight_to_int4pack with inner_k_tiles = 8.
// Sizes as stored: n rounded up to 8, k to 1024.
std::int64_t TorchaoPaddedN(std::int64_t n);
std::int64_t TorchaoPaddedK(std::int64_t k);
// Returns I32 [padded n / 8, padded k / 128, 32, 4]; padding holds code 0.
std::vector<std::int32_t> PackTorchaoTile(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n);
// Drops the padding.
std::vector<std::uint8_t> UnpackTorchaoTile(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n);
// Some of its columns, from `first` on, a multiple of 8, as rows of codes: [columns, k].
void UnpackTorchaoTileColumns(std::span<const std::int32_t> words, std::int64_t k, std::int64_t n, std::int64_t first,
                              std::int64_t columns, std::int32_t* codes);

// --- torchao Int4Tensor ("plain"): I8 [n, k / 2], the low nibble the even k,
// --- two's complement: a stored nibble is code - 8.
std::vector<std::int8_t> PackTorchaoPlain(std::span<const std::uint8_t> codes, std::int64_t k, std::int64_t n);
std::vector<std::uint8_t> UnpackTorchaoPlain(std::span<const std::int8_t> bytes, std::int64_t k, std::int64_t n);
// As UnpackTorchaoTileColumns().
void UnpackTorchaoPlainColumns(std::span<const std::int8_t> bytes, std::int64_t k, std::int64_t n, std::int64_t first,
                               std::int64_t columns, std::int32_t* codes);

}  // namespace kernels

#endif  // KERNELS_INT4_PACK_H_
