"""usage: make_compressed_tensors.py SOURCE OUT TEXT rtn|gptq|awq group|channel GROUP_SIZE sym|asym [--actorder group|weight] [--shard 5GB]"""
import argparse
import pathlib

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.awq import AWQModifier
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

import calibration

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("out")
parser.add_argument("text", type=pathlib.Path)
parser.add_argument("method", choices=["rtn", "gptq", "awq"])
parser.add_argument("strategy", choices=["group", "channel"])
parser.add_argument("group_size", type=int)
parser.add_argument("symmetry", choices=["sym", "asym"])
parser.add_argument("--actorder")
parser.add_argument("--shard", default="5GB")
a = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(a.source, torch_dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(a.source)
weights = {"num_bits": 4, "type": "int", "symmetric": a.symmetry == "sym", "strategy": a.strategy}
if a.strategy == "group":
    weights["group_size"] = a.group_size
if a.actorder:
    weights["actorder"] = a.actorder
groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
modifier = {"rtn": QuantizationModifier, "gptq": GPTQModifier, "awq": AWQModifier}[a.method]
data = None
if a.method != "rtn":
    ids = calibration.ids(tokenizer, a.text)
    data = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids]})
oneshot(model=model, tokenizer=tokenizer, dataset=data, recipe=[modifier(config_groups=groups, ignore=["lm_head"])],
        max_seq_length=128, num_calibration_samples=16)
model.save_pretrained(a.out, save_compressed=True, max_shard_size=a.shard)
