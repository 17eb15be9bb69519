"""The weights of compressed-tensors checkpoints by its own decompression, beside reference.py's formula.

usage: decompress.py CHECKPOINT...

compressed-tensors 0.20.0 decompresses all but actorder "group", which it no longer knows; 0.12.2, which wrote the files,
refuses packed zero points, and its own unpack_from_int32() and dequantize() are called. Scales are given as float32, so that
the product is exact. Exits with 1 where an element differs.
"""
import json
import pathlib
import sys

import compressed_tensors
import torch
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import load_file

import reference

try:
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
except ImportError:
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32

    PackedQuantizationCompressor = None


def decompress(state, scheme):
    if PackedQuantizationCompressor is not None:
        return PackedQuantizationCompressor.decompress(state, scheme)["weight"]
    shape, scale = state["weight_shape"], state["weight_scale"]
    zero = None
    if "weight_zero_point" in state:
        zero = unpack_from_int32(state["weight_zero_point"], 4, torch.Size((shape[0], scale.shape[1])), packed_dim=0)
    codes = unpack_from_int32(state["weight_packed"], 4, shape)
    return dequantize(codes, scale, zero, args=scheme.weights, g_idx=state.get("weight_g_idx"))


differ = False
for folder in map(pathlib.Path, sys.argv[1:]):
    config = json.loads((folder / "config.json").read_text())
    scheme = QuantizationScheme(**config["quantization_config"]["config_groups"]["group_0"])
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors.update(load_file(file))
    ours = reference.dense_weights(folder, config, False)
    unequal = elements = 0
    for module in sorted(t[: -len(".weight_packed")] for t in tensors if t.endswith(".weight_packed")):
        names = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
        state = {name: tensors[f"{module}.{name}"] for name in names if f"{module}.{name}" in tensors}
        state["weight_scale"] = state["weight_scale"].float()
        state["weight_shape"] = torch.Size(state["weight_shape"].tolist())
        theirs = decompress(state, scheme)
        unequal += int((theirs.float() != ours[module + ".weight"]).sum())
        elements += theirs.numel()
    differ |= unequal != 0
    print(f"{folder.name}: compressed-tensors {compressed_tensors.__version__}, {unequal} of {elements} elements differ")
sys.exit(differ)
