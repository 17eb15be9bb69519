"""The weights of an OpenVINO IR as optimum-intel and nncf write it, without OpenVINO.

A linear layer's constants: NAME.weight (u4, i4 or u8), NAME.weight/scale, and NAME.weight/zero_point where asymmetric;
W = (q - zero_point) * scale, [N, groups, K / groups] or [N, K]. Two 4-bit values share a byte, the first the low one.
Newer files say _openvino_orig_weight for weight. A norm's weight is the constant of its last multiplication.
"""
import re
import xml.etree.ElementTree

import numpy as np
import torch

TYPES = {"f32": np.float32, "f16": np.float16, "u8": np.uint8, "i8": np.int8, "i64": np.int64, "i32": np.int32}


def constant(layer, blob):
    data = layer.find("data").attrib
    shape = [int(s) for s in data["shape"].split(",") if s.strip()]
    raw = blob[int(data["offset"]) : int(data["offset"]) + int(data["size"])]
    kind = data["element_type"]
    if kind in ("u4", "i4"):
        packed = np.frombuffer(raw, np.uint8)
        values = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[: int(np.prod(shape))].astype(np.int32)
        if kind == "i4":
            values = np.where(values > 7, values - 16, values)
    elif kind == "bf16":
        values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, TYPES[kind])
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def read(folder):
    root = xml.etree.ElementTree.parse(folder / "openvino_model.xml").getroot()
    blob = (folder / "openvino_model.bin").read_bytes()
    layers = {layer.get("id"): layer for layer in root.find("layers")}
    named = {layer.get("name"): layer for layer in layers.values() if layer.get("type") == "Const"}
    weights = {}
    for name, layer in named.items():
        found = re.fullmatch(r"self\.((?:model|lm_head).*)\.(?:weight|_openvino_orig_weight)", name)
        if not found:
            continue
        w = constant(layer, blob)
        if name + "/scale" in named:
            zero = constant(named[name + "/zero_point"], blob) if name + "/zero_point" in named else 0.0
            w = (w - zero) * constant(named[name + "/scale"], blob)
        weights[found[1] + ".weight"] = w.reshape(w.shape[0], -1)
    for edge in root.find("edges"):
        norm = re.fullmatch(r"__module\.(model\..*norm)/aten::mul/Multiply_1", layers[edge.get("to-layer")].get("name"))
        source = layers[edge.get("from-layer")]
        if norm and source.get("type") == "Const":
            weights[norm[1] + ".weight"] = constant(source, blob).reshape(-1)
    return weights
