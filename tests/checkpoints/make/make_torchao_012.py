"""torchao 0.12 AffineQuantizedTensor pickles, tile-packed, in shards.

aten::_convert_weight_to_int4pack exists for CUDA only; here it is emulated on the CPU by the layout of its source, and
storages are tagged cuda:0 as a GPU machine tags them. All else is torchao's and transformers' own code.

usage: make_torchao_012.py SOURCE OUT GROUP_SIZE [--shard 100KB]
"""
import argparse

import torch
from torch.library import Library
from torchao.dtypes import TensorCoreTiledLayout
from torchao.quantization import Int4WeightOnlyConfig
from transformers import AutoModelForCausalLM, TorchAoConfig

import tile_packing

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("out")
parser.add_argument("group_size", type=int)
parser.add_argument("--shard", default="5GB")
a = parser.parse_args()

library = Library("aten", "IMPL")
library.impl("_convert_weight_to_int4pack", tile_packing.pack, "CPU")
config = Int4WeightOnlyConfig(group_size=a.group_size, layout=TensorCoreTiledLayout(inner_k_tiles=8))
model = AutoModelForCausalLM.from_pretrained(
    a.source, torch_dtype=torch.bfloat16, quantization_config=TorchAoConfig(config), device_map="cpu")
torch.serialization.register_package(1, lambda storage: "cuda:0", lambda storage, location: None)
model.save_pretrained(a.out, safe_serialization=False, max_shard_size=a.shard)
