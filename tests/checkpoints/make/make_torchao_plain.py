"""torchao 0.18 safetensors of transformers 5, plain packing by mslk. No GPU is needed.

usage: make_torchao_plain.py SOURCE OUT GROUP_SIZE [--shard 5GB]
"""
import argparse

import torch
from torchao.quantization import Int4WeightOnlyConfig
from transformers import AutoModelForCausalLM, TorchAoConfig

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("out")
parser.add_argument("group_size", type=int)
parser.add_argument("--shard", default="5GB")
a = parser.parse_args()

config = Int4WeightOnlyConfig(group_size=a.group_size, int4_packing_format="plain")
model = AutoModelForCausalLM.from_pretrained(
    a.source, dtype=torch.bfloat16, quantization_config=TorchAoConfig(config), device_map="cpu")
model.save_pretrained(a.out, max_shard_size=a.shard)
