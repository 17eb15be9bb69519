"""A small random Qwen3 that the tools quantize.

usage: source_model.py OUT --tokenizer FOLDER [--hidden 128 --mlp 256 --layers 2 --heads 4 --kv-heads 2 --head-dim 32]
                       [--dtype float16] [--untied] [--one-sided]

--one-sided: every fifth output of a linear layer has positive weights alone, every fifth negative ones, so that
asymmetric zero points reach 0 and 15.
"""
import argparse
import pathlib
import shutil

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
parser.add_argument("--hidden", type=int, default=128)
parser.add_argument("--mlp", type=int, default=256)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--heads", type=int, default=4)
parser.add_argument("--kv-heads", type=int, default=2)
parser.add_argument("--head-dim", type=int, default=32)
parser.add_argument("--dtype", default="float16")
parser.add_argument("--untied", action="store_true")
parser.add_argument("--one-sided", action="store_true")
a = parser.parse_args()

torch.manual_seed(20250729)
config = Qwen3Config(
    vocab_size=1024, hidden_size=a.hidden, intermediate_size=a.mlp, num_hidden_layers=a.layers,
    num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, head_dim=a.head_dim, max_position_embeddings=8192,
    rope_theta=1e6, tie_word_embeddings=not a.untied, bos_token_id=1003, eos_token_id=1005, attention_bias=False)
model = Qwen3ForCausalLM(config)
with torch.no_grad():
    for name, tensor in model.named_parameters():
        if "norm" in name:
            tensor.normal_(1.0, 0.1)
        elif "embed_tokens" in name or "lm_head" in name:
            tensor.normal_(0.0, 1.3 / a.hidden**0.5)
        else:
            tensor.normal_(0.0, 1.0 / tensor.shape[1] ** 0.5)
            # Some inputs matter more than others, as in trained models.
            tensor.mul_(torch.empty(tensor.shape[1]).normal_(0.0, 0.5).exp())
            if a.one_sided:
                tensor[0::5].abs_()
                tensor[1::5].abs_().neg_()
model.to(getattr(torch, a.dtype)).save_pretrained(a.out)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copyfile(a.tokenizer / name, a.out / name)
