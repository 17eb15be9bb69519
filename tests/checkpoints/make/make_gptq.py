"""usage: make_gptq.py SOURCE OUT TEXT GROUP_SIZE sym|asym gptq|gptq_v2 [--desc-act] [--shard 4GB]"""
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
parser.add_argument("format", choices=["gptq", "gptq_v2"])
parser.add_argument("--desc-act", action="store_true")
parser.add_argument("--shard")
a = parser.parse_args()

config = QuantizeConfig(bits=4, group_size=a.group_size, desc_act=a.desc_act, sym=a.symmetry == "sym",
                        format=a.format, device="cpu")
model = GPTQModel.load(a.source, config)
data = calibration.ids(AutoTokenizer.from_pretrained(a.source), a.text)
model.quantize([{"input_ids": i, "attention_mask": [1] * len(i)} for i in data], batch_size=1)
model.save(a.out, **({"max_shard_size": a.shard} if a.shard else {}))
