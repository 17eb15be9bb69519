"""torchao 0.18 safetensors of transformers 5, tile_packed_to_4d.

aten::_convert_weight_to_int4pack exists for CUDA only; here it is emulated on the CPU by its layout, and the check for a
GPU of capability 8 is answered with 9.

usage: make_torchao_018.py SOURCE OUT GROUP_SIZE
"""
import sys

import torch
from torch.library import Library
from torchao.quantization import Int4WeightOnlyConfig
from transformers import AutoModelForCausalLM, TorchAoConfig

import tile_packing

source, out, group_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
library = Library("aten", "IMPL")
library.impl("_convert_weight_to_int4pack", tile_packing.pack, "CPU")
torch.cuda.get_device_capability = lambda *_: (9, 0)
config = Int4WeightOnlyConfig(group_size=group_size, int4_packing_format="tile_packed_to_4d",
                              int4_choose_qparams_algorithm="tinygemm")
model = AutoModelForCausalLM.from_pretrained(
    source, dtype=torch.bfloat16, quantization_config=TorchAoConfig(config), device_map="cpu")
model.save_pretrained(out)
