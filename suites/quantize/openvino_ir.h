// Writes a Qwen3 as OpenVINO IR.
#ifndef SUITES_QUANTIZE_OPENVINO_IR_H_
#define SUITES_QUANTIZE_OPENVINO_IR_H_

#include <filesystem>

#include "suites/quantize/quantize.h"

namespace suites::quantize {

// Writes openvino_model.xml and openvino_model.bin into `folder`, in the form
// that optimum-intel exports: inputs input_ids, attention_mask, position_ids
// [B, S] i64 and beam_idx [B] i32, output logits [B, S, vocab] f32, keys and
// values in states past_key_values.I.key/value; linear layers u4 [N, K/G, G]
// with u4 zero points and float16 scales, embedding and lm_head float16. Saved
// by the OpenVINO library. Throws CheckpointError, also in a build without
// OpenVINO.
void WriteOpenVinoIr(const WeightSource& source, const std::filesystem::path& folder, const QuantizeOptions& options);

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_OPENVINO_IR_H_
