"""compressed-tensors 0.8.1 itself, without llm-compressor: its zero points are not packed.

usage: make_compressed_tensors_081.py SOURCE OUT [--actorder group|weight|static] [--strategy group|channel] [--sym]
"""
import argparse
import pathlib

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus,
                                             apply_quantization_config)
from compressed_tensors.quantization.utils import calculate_qparams
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("source", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--actorder")
parser.add_argument("--strategy", default="group")
parser.add_argument("--sym", action="store_true")
a = parser.parse_args()

torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(a.source, torch_dtype="auto")
args = QuantizationArgs(num_bits=4, type="int", symmetric=a.sym, strategy=a.strategy,
                        group_size=32 if a.strategy == "group" else None, actorder=a.actorder)
config = QuantizationConfig(config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=args)},
                            ignore=["lm_head"], format="pack-quantized", quantization_status="frozen")
apply_quantization_config(model, config)
for name, module in model.named_modules():
    if not hasattr(module, "weight_scale"):
        continue
    weight = module.weight.data.float()
    n, k = weight.shape
    group = 32 if a.strategy == "group" else k
    order = torch.arange(k) // group
    if a.actorder == "group":
        order = order[torch.randperm(k)]
        module.weight_g_idx.data.copy_(order)
    low, high = [], []
    for g in range(k // group):
        part = weight[:, order == g]
        low.append(part.amin(1)), high.append(part.amax(1))
    scale, zero = calculate_qparams(torch.stack(low, 1), torch.stack(high, 1), args)
    module.weight_scale.data.copy_(scale)
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data.copy_(zero)
    module.quantization_status = QuantizationStatus.FROZEN
compressor = ModelCompressor.from_pretrained_model(model, quantization_format="pack-quantized")
state = compressor.compress(model)
model.save_pretrained(a.out, state_dict=state)
compressor.update_config(a.out)
