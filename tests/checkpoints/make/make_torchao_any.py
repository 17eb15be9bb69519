"""Any torchao from 0.9 to 0.17: pickles of each tile-packed form that it knows, with references beside them.

usage: make_torchao_any.py SOURCE OUT PROMPTS CONFIG

OUT/VERSION_FORM/pytorch_model.bin; CONFIG: a config.json of such a model (that of torchao_014_cuda). The packing is emulated as in
make_torchao_018.py. A form that this version cannot make is named and left out.
"""
import inspect
import json
import pathlib
import sys

import torch
import torchao
from safetensors.torch import load_file
from torch.library import Library
from torchao.quantization import Int4WeightOnlyConfig, quantize_

import reference
import tile_packing

source, out, prompts, template = (pathlib.Path(a) for a in sys.argv[1:5])
library = Library("aten", "IMPL")
library.impl("_convert_weight_to_int4pack", tile_packing.pack, "CPU")
torch.cuda.get_device_capability = lambda *_: (9, 0)
known = inspect.signature(Int4WeightOnlyConfig).parameters

forms = {}
for group in (32, 64):
    forms[f"tensor_g{group}"] = dict(group_size=group, int4_packing_format="tile_packed_to_4d")
    forms[f"impl_g{group}"] = dict(group_size=group)
forms["tensor_hqq"] = dict(group_size=64, int4_packing_format="tile_packed_to_4d", int4_choose_qparams_algorithm="hqq")
forms["impl_hqq"] = dict(group_size=64, use_hqq=True)
for form, settings in forms.items():
    if "version" in known:
        settings["version"] = 2 if form.startswith("tensor") else 1
    folder = out / f"{torchao.__version__}_{form}"
    try:
        tensors = {}
        for name, weight in load_file(source / "model.safetensors").items():
            tensors[name] = weight
            if name.endswith("proj.weight"):
                linear = torch.nn.Linear(*reversed(weight.shape), bias=False, dtype=torch.bfloat16)
                linear.weight.data.copy_(weight)
                module = torch.nn.Sequential(linear)
                quantize_(module, Int4WeightOnlyConfig(**settings))
                tensors[name] = module[0].weight.detach()
    except (TypeError, AssertionError, ImportError) as error:
        print(f"{folder.name}: not made: {type(error).__name__} {error}")
        continue
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / "pytorch_model.bin")
    config = json.loads(template.read_text())
    data = {"_type": "Int4WeightOnlyConfig", "_version": 1, "_data": {"group_size": settings["group_size"]}}
    config["quantization_config"]["quant_type"] = {"default": data}
    (folder / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        reference.write_reference(folder, json.loads(prompts.read_text()), use_pickle=True)
