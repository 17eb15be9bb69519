#!/usr/bin/env python3
"""Prefill and decode of Qwen3-8B's shape by Hugging Face transformers, to compare with.

Usage: compare_transformers.py [--prompt 3790] [--steps 16] [--rounds 7] [--attention eager sdpa] [--json FILE]

Random bfloat16 weights, eager mode (no CUDA graph, no compilation), one sequence, greedy. A round is one prefill of the
prompt, then so many decode steps; times are by CUDA events, from the first launch to the last kernel; medians of rounds
after one to warm up. The attentions take turns. Needs torch with CUDA and transformers 4.51 or later.
"""
import argparse
import json
import statistics
import sys


def make_model(torch, transformers):
    config = transformers.Qwen3Config(
        vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rope_theta=1e6, tie_word_embeddings=False)
    config._attn_implementation = "eager"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.Qwen3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model.eval()


def one_round(torch, transformers, model, ids, steps):
    """Milliseconds of the prefill and of one decode step."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
    cache = transformers.DynamicCache()
    torch.cuda.synchronize()
    with torch.inference_mode():
        events[0].record()
        token = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
        events[1].record()
        for _ in range(steps):
            token = model(token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
        events[2].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]), events[1].elapsed_time(events[2]) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompt", type=int, default=3790)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--attention", nargs="+", default=["eager", "sdpa"])
    parser.add_argument("--json")
    arguments = parser.parse_args()
    import torch
    import transformers
    if not torch.cuda.is_available():
        sys.exit("compare_transformers.py: no CUDA device")
    torch.manual_seed(1)
    model = make_model(torch, transformers)
    ids = (torch.arange(arguments.prompt, device="cuda") * 7919 + 11).remainder(151936).unsqueeze(0)
    times = {name: [] for name in arguments.attention}
    for measured in range(arguments.rounds + 1):
        for name in arguments.attention:
            model.set_attn_implementation(name)
            result = one_round(torch, transformers, model, ids, arguments.steps)
            if measured > 0:
                times[name].append(result)
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "transformers": transformers.__version__,
              "prompt": arguments.prompt, "steps": arguments.steps, "rounds": arguments.rounds, "attention": {}}
    for name, rounds in times.items():
        prefill = statistics.median(r[0] for r in rounds)
        decode = statistics.median(r[1] for r in rounds)
        result["attention"][name] = {"prefill_ms": prefill, "decode_ms": decode, "rounds": rounds}
        print(f"transformers {transformers.__version__}, bf16, {name} attention: prefill of {arguments.prompt} tokens "
              f"{prefill:.1f} ms, decode {decode:.2f} ms a token (medians of {arguments.rounds})")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
