"""usage: make_awq.py SOURCE OUT TEXT GROUP_SIZE [--keep MODULE] [--shard 5GB] [--dtype float16]

AutoAWQ's search stops on group size -1 (a view of (-1, -1)), and its packing too (idx // -1); for that size alone search
and clipping are left out and the packing is told the number of inputs, as AutoAWQ's loader understands -1.
"""
import argparse
import pathlib

import torch
from awq import AutoAWQForCausalLM
from awq.modules.linear.gemm import WQLinear_GEMM
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.module import get_op_name
from transformers import AutoTokenizer

import calibration

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("out")
parser.add_argument("text", type=pathlib.Path)
parser.add_argument("group_size", type=int)
parser.add_argument("--keep")
parser.add_argument("--shard", default="5GB")
parser.add_argument("--dtype", default="float16")
a = parser.parse_args()

model = AutoAWQForCausalLM.from_pretrained(
    a.source, torch_dtype=getattr(torch, a.dtype), device_map="cpu", use_cache=False)
tokenizer = AutoTokenizer.from_pretrained(a.source)
config = {"zero_point": True, "q_group_size": a.group_size, "w_bit": 4, "version": "GEMM"}
if a.keep:
    config["modules_to_not_convert"] = [a.keep]
if a.group_size == -1:

    def no_search(self, module, prev_op, layers, inp, **_):
        names = tuple(get_op_name(module, layer) for layer in layers)
        return get_op_name(module, prev_op), names, torch.ones(inp.shape[-1])

    AwqQuantizer._search_best_scale = no_search
    from_linear = WQLinear_GEMM.from_linear.__func__

    def whole_columns(cls, linear, w_bit, group_size, *args, **kwargs):
        return from_linear(cls, linear, w_bit, linear.in_features, *args, **kwargs)

    WQLinear_GEMM.from_linear = classmethod(whole_columns)
model.quantize(tokenizer, quant_config=config, calib_data=calibration.ids(tokenizer, a.text), max_calib_seq_len=128,
               max_calib_samples=16, apply_clip=a.group_size != -1)
model.save_quantized(a.out, shard_size=a.shard)
