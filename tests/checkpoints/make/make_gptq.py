"""usage: make_gptq.py SOURCE OUT TEXT GROUP_SIZE sym|asym gptq|gptq_v2|gemm [--desc-act] [--shard 4GB] [--head] [--dynamic] [--awq]

--head: the output head too. --dynamic: down_proj with groups of 64, v_proj left out. --awq: its AWQ, format gemm.
"""
import argparse
import pathlib

from gptqmodel import GPTQModel, QuantizeConfig
from transformers import AutoTokenizer

import calibration

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("out")
parser.add_argument("text", type=pathlib.Path)
parser.add_argument("group_size", type=int)
parser.add_argument("symmetry", choices=["sym", "asym"])
parser.add_argument("format", choices=["gptq", "gptq_v2", "gemm"])
parser.add_argument("--desc-act", action="store_true")
parser.add_argument("--shard")
for flag in ("--head", "--dynamic", "--awq"):
    parser.add_argument(flag, action="store_true")
a = parser.parse_args()

more = {"lm_head": True} if a.head else {}
if a.dynamic:
    more["dynamic"] = {r"+:.*\.down_proj.*": {"group_size": 64}, r"-:.*\.v_proj.*": {}}
if a.awq:
    more["quant_method"] = "awq"
config = QuantizeConfig(bits=4, group_size=a.group_size, desc_act=a.desc_act, sym=a.symmetry == "sym",
                        format=a.format, device="cpu", **more)
model = GPTQModel.load(a.source, config)
data = calibration.ids(AutoTokenizer.from_pretrained(a.source), a.text)
model.quantize([{"input_ids": i, "attention_mask": [1] * len(i)} for i in data], batch_size=1)
model.save(a.out, **({"max_shard_size": a.shard} if a.shard else {}))
