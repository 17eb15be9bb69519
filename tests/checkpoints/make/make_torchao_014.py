"""torchao 0.14 Int4TilePackedTo4dTensor as torch.save writes it on a GPU: every linear layer of a model, its storages on cuda:0.

usage: make_torchao_014.py SOURCE OUT GROUP_SIZE

The pickle alone: transformers 5 saves none, and transformers 4.57 wants an older torch than the GPU had.
"""
import pathlib
import sys

import torch
from safetensors.torch import load_file
from torchao.quantization import Int4WeightOnlyConfig, quantize_

source, out, group_size = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
config = Int4WeightOnlyConfig(group_size=group_size, int4_packing_format="tile_packed_to_4d", version=2)
tensors = {}
for name, weight in load_file(source / "model.safetensors").items():
    tensors[name] = weight.cuda()
    if not name.endswith("proj.weight"):
        continue
    linear = torch.nn.Linear(*reversed(weight.shape), bias=False, dtype=torch.bfloat16, device="cuda")
    linear.weight.data.copy_(weight)
    module = torch.nn.Sequential(linear)
    quantize_(module, config)
    tensors[name] = module[0].weight.detach()
tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
out.mkdir(exist_ok=True)
torch.save(tensors, out / "pytorch_model.bin")
