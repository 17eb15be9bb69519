// Reader of PyTorch checkpoint pickles (pytorch_model.bin) as torchao writes
// them. Nothing in the file is executed.
#ifndef SUITES_CHECKPOINT_TORCH_PICKLE_H_
#define SUITES_CHECKPOINT_TORCH_PICKLE_H_

#include <filesystem>

#include "suites/checkpoint/tensor_table.h"

namespace suites {

// `path`: a file, or a folder that holds pytorch_model.bin or
// pytorch_model.bin.index.json. The table names things as torchao's safetensors
// do: a quantized "X.weight" becomes "X._weight_qdata" and
// "X._weight_scale_and_zero", its type and true shape stand in the metadata
// under "X.weight".
//
// The pickle machine knows the opcodes of protocol 2 that torch.save() writes,
// and these globals: collections.OrderedDict, torch.{BFloat16,Half,Float,Int,
// Long,Char,Byte}Storage, torch.{bfloat16,float16,float32,int32}, torch.device,
// torch.serialization._get_layout, torch._utils._rebuild_tensor_v2,
// torch._utils._rebuild_wrapper_subclass, torch._tensor._rebuild_from_type_v2,
// torchao.quantization.Int4TilePackedTo4dTensor; of torchao before 0.14
// torchao.dtypes.affine_quantized_tensor.AffineQuantizedTensor, its
// TensorCoreTiledAQTTensorImpl and TensorCoreTiledLayout (there or in
// torchao.dtypes.uintx.tensor_core_tiled_layout), and
// torchao.quantization.quant_primitives.ZeroPointDomain. Any other global is
// refused by name. Throws CheckpointError.
TensorTable OpenTorchPickle(const std::filesystem::path& path);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_TORCH_PICKLE_H_
