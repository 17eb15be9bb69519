"""Reference logits: transformers in float32 over weights dequantized by the formulas of each format.

usage: reference.py PROMPTS CHECKPOINT... [--pickle]

Writes CHECKPOINT/reference/reference.json and reference_logits.safetensors. Runs in any environment with transformers
4.51 or later; --pickle needs the torchao that wrote the file.
"""
import argparse
import glob
import json
import pathlib

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

import openvino_weights

AWQ = [0, 2, 4, 6, 1, 3, 5, 7]


def nibbles(words, order=range(8)):
    """I32 [..., c] to [..., 8c]: bits 4i of word c are element 8c + order[i]."""
    words = words.to(torch.int64) & 0xFFFFFFFF
    out = torch.empty(*words.shape, 8, dtype=torch.int64)
    for i, position in enumerate(order):
        out[..., position] = (words >> (4 * i)) & 15
    return out.reshape(*words.shape[:-1], -1)


def awq(t, m, q):
    codes, zeros = nibbles(t[m + ".qweight"], AWQ), nibbles(t[m + ".qzeros"], AWQ)
    group = codes.shape[0] // zeros.shape[0]
    g = torch.arange(codes.shape[0]) // group
    return ((codes - zeros[g]).float() * t[m + ".scales"].float()[g]).T


def values(words, bits):
    """I32 [..., c] to [..., 32 / bits * c], the lowest bits first."""
    words = words.to(torch.int64) & 0xFFFFFFFF
    return torch.stack([(words >> shift) & (2**bits - 1) for shift in range(0, 32, bits)], -1).reshape(*words.shape[:-1], -1)


def gptq(t, m, q):
    g = t[m + ".g_idx"].long()
    bits = 32 * t[m + ".qweight"].shape[0] // len(g)  # an output head may have 8
    words = t[m + ".qzeros"].to(torch.int64) & 0xFFFFFFFF
    if q.get("checkpoint_format", q.get("format", "gptq")) == "gptq":
        words = (words + sum(1 << shift for shift in range(0, 32, bits))) & 0xFFFFFFFF
    codes, zeros = values(t[m + ".qweight"].T.contiguous(), bits).T, values(words, bits)
    return ((codes - zeros[g]).float() * t[m + ".scales"].float()[g]).T


def compressed(t, m, q):
    """[N, K]: codes offset by 8; zero points packed along N, offset by 8."""
    n, k = t[m + ".weight_shape"].tolist()
    scale = t[m + ".weight_scale"].float()
    codes = nibbles(t[m + ".weight_packed"])[:, :k] - 8
    zeros = torch.zeros_like(scale, dtype=torch.int64)
    if m + ".weight_zero_point" in t and t[m + ".weight_zero_point"].dtype == torch.int8:
        zeros = t[m + ".weight_zero_point"].long()  # until compressed-tensors 0.8.1
    elif m + ".weight_zero_point" in t:
        zeros = nibbles(t[m + ".weight_zero_point"].T.contiguous()).T[:n] - 8
    g = torch.arange(k) // (k // scale.shape[1])
    if m + ".weight_g_idx" in t:
        g = t[m + ".weight_g_idx"].long()
    return (codes - zeros[:, g]).float() * scale[:, g]


def tile(qdata, scale_and_zero, n, k):
    words = qdata.to(torch.int64) & 0xFFFFFFFF
    codes = torch.empty(8 * words.shape[0], 128 * words.shape[1], dtype=torch.int64)
    t = torch.arange(32)
    for outer in range(words.shape[1]):
        for j in range(4):
            first = 128 * outer + 32 * j + 2 * (t % 4)
            for bit, step in ((0, 0), (4, 8), (8, 16), (12, 24), (16, 1), (20, 9), (24, 17), (28, 25)):
                rows = 8 * torch.arange(words.shape[0])[:, None] + t // 4
                codes[rows, (first + step).expand_as(rows)] = (words[:, outer, :, j] >> bit) & 15
    s = scale_and_zero.float()
    g = torch.arange(codes.shape[1]) // (codes.shape[1] // s.shape[0])
    return ((codes - 8).float() * s[g, :, 0].T + s[g, :, 1].T)[:n, :k]


def plain(t, m):
    q = t[m + "._weight_qdata"]
    codes = torch.stack([(q << 4) >> 4, q >> 4], dim=2).reshape(q.shape[0], -1)
    s, z = t[m + "._weight_scale"].float(), t[m + "._weight_zero_point"].float()
    g = torch.arange(codes.shape[1]) // (codes.shape[1] // s.shape[0])
    return codes.float() * s[g].T + z[g].T


def dense_weights(folder, config, use_pickle):
    if (folder / "openvino_model.xml").exists():
        return openvino_weights.read(folder)
    t = {}
    for f in sorted(glob.glob(str(folder / "*.safetensors"))):
        t.update(load_file(f))
    if use_pickle:
        for f in sorted(glob.glob(str(folder / "pytorch_model*.bin"))):
            t.update(torch.load(f, map_location="cpu", weights_only=False))
    q = config["quantization_config"]
    weights, done = {}, set()
    for name, tensor in t.items():
        module = name.rsplit(".", 1)[0]
        if name.endswith((".qweight", ".weight_packed", "._weight_qdata")) and module not in done:
            done.add(module)
            if name.endswith(".weight_packed"):
                w = compressed(t, module, q)
            elif name.endswith("._weight_qdata"):
                w = None
                if module + "._weight_scale_and_zero" in t:
                    shape = Qwen3ForCausalLM(Qwen3Config(**config)).get_submodule(module).weight.shape
                    w = tile(tensor, t[module + "._weight_scale_and_zero"], *shape)
                else:
                    w = plain(t, module)
            else:
                w = (awq if q["quant_method"] == "awq" else gptq)(t, module, q)
            weights[module + ".weight"] = w
        elif type(tensor) is not torch.Tensor and hasattr(tensor, "tensor_impl"):
            impl = tensor.tensor_impl
            weights[name] = tile(impl.packed_weight, impl.scale_and_zero, *tensor.shape)
        elif type(tensor) is not torch.Tensor and hasattr(tensor, "scale_and_zero"):
            weights[name] = tile(tensor.qdata, tensor.scale_and_zero, *tensor.shape)
        elif name.endswith(".weight"):
            weights[name] = tensor.float()
    return weights


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("prompts", type=pathlib.Path)
    parser.add_argument("checkpoints", type=pathlib.Path, nargs="+")
    parser.add_argument("--pickle", action="store_true")
    a = parser.parse_args()
    prompts = json.loads(a.prompts.read_text())
    torch.set_grad_enabled(False)
    for checkpoint in a.checkpoints:
        write_reference(checkpoint, prompts, a.pickle)


def write_reference(checkpoint, prompts, use_pickle):
    config = json.loads((checkpoint / "config.json").read_text())
    weights = dense_weights(checkpoint, config, use_pickle)
    config.pop("quantization_config", None)
    for key in ("dtype", "torch_dtype"):
        config.pop(key, None)
    model = Qwen3ForCausalLM(Qwen3Config(**config, attn_implementation="eager")).float().eval()
    missing, unexpected = model.load_state_dict({k: v.contiguous() for k, v in weights.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    out, logits = {}, {}
    for name, ids in prompts.items():
        step_logits, generated, cache = [], [], None
        for _ in range(20):
            step = model(torch.tensor([generated[-1:] or ids]), past_key_values=cache, use_cache=True)
            all_logits, cache = step.logits[0].float(), step.past_key_values
            if not generated:
                prompt_logits = all_logits
            step_logits.append(all_logits[-1])
            generated.append(int(all_logits[-1].argmax()))
        steps = torch.stack(step_logits)
        logprobs = torch.log_softmax(steps.double(), -1)
        top = logprobs.topk(10)
        two = steps.topk(2).values
        margins = (two[:, 0] - two[:, 1]).tolist()
        nll = -torch.log_softmax(prompt_logits[:-1].double(), -1).gather(1, torch.tensor(ids[1:])[:, None]).mean()

        def robust(bound):
            return next((i for i, m in enumerate(margins) if m < bound), 20)

        out[name] = {
            "prompt_ids": ids, "generated_ids": generated, "top10_ids": top.indices.tolist(),
            "top10_logprobs": [[round(v, 6) for v in row] for row in top.values.tolist()],
            "step_margins": [round(m, 4) for m in margins], "prompt_mean_nll": float(nll),
            "robust_prefix_len": robust(0.02), "robust_prefix_len_fp32": robust(0.001)}
        if name == "p7":
            logits = {"p7.prompt_logits": prompt_logits.contiguous(), "p7.step_logits": steps.contiguous()}
    folder = checkpoint / "reference"
    folder.mkdir(exist_ok=True)
    meta = {"reference": f"transformers {transformers.__version__} Qwen3ForCausalLM float32, eager, CPU torch "
                         f"{torch.__version__}, over dequantized weights; greedy, eos ignored, 20 tokens"}
    (folder / "reference.json").write_text(json.dumps({"meta": meta, "prompts": out}))
    save_file(logits, str(folder / "reference_logits.safetensors"))
    print(checkpoint.name, {n: (p["robust_prefix_len"], p["robust_prefix_len_fp32"]) for n, p in out.items()})


if __name__ == "__main__":
    main()
