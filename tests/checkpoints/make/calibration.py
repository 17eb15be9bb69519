"""Calibration data: pieces of an English text."""
import pathlib


def ids(tokenizer, text: pathlib.Path, count=16, length=128):
    tokens = tokenizer(text.read_text())["input_ids"]
    step = max(1, (len(tokens) - length) // count)
    return [tokens[i * step : i * step + length] for i in range(count)]
