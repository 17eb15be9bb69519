"""Writes the seeds of tests/fuzz/corpus: small files of every kind that the readers know.

    python3 tests/fuzz/make_corpus.py

The seeds are in the repository; run this only to change them.
"""
import io
import json
import pathlib
import pickle
import struct
import zipfile

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent / "data"


def write(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def make_safetensors():
    two = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "I32", "shape": [], "data_offsets": [12, 16]},
    }
    write("safetensors", "two", safetensors(two, bytes(16)))
    write("safetensors", "none", safetensors({}, b""))
    empty = {"a": {"dtype": "BF16", "shape": [0, 4], "data_offsets": [0, 0]},
             "b": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}}
    write("safetensors", "empty_tensor", safetensors(empty, b"\1"))
    write("safetensors", "cut", safetensors(two, bytes(16))[:40])
    write("index", "good", json.dumps({"metadata": {"total_size": 2},
                                       "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    write("index", "one", json.dumps({"weight_map": {"a": "one.safetensors"}}))
    write("index", "outside", json.dumps({"weight_map": {"a": "../one.safetensors", "b": "/two.safetensors"}}))


class Global:
    """Pickles as a global of any module, without importing it."""

    def __init__(self, name):
        self.name = name


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Storage:
    def __init__(self, kind, key, elements, location="cpu"):
        self.id = ("storage", Global(kind), key, location, elements)


class Pickler(pickle._Pickler):  # the one in Python: its steps can be replaced
    def save_global_name(self, obj):
        module, _, name = obj.name.rpartition(".")
        self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.save_global_name(obj)
        elif isinstance(obj, Storage):
            self.save(obj.id)
            self.write(pickle.BINPERSID)
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def dumps(value):
    out = io.BytesIO()
    Pickler(out, protocol=2).dump(value)
    return out.getvalue()


def tensor(storage, shape, offset=0):
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return Call(Global("torch._utils._rebuild_tensor_v2"), storage, offset, tuple(shape), tuple(strides), False,
                Call(Global("collections.OrderedDict")))


def wrapper(kind, shape, parts):
    return Call(Global("torch._tensor._rebuild_from_type_v2"), Global("torch._utils._rebuild_wrapper_subclass"),
                Global(kind),
                (Global(kind), Global("torch.bfloat16"), tuple(shape), (shape[1], 1), 0,
                 Call(Global("torch.serialization._get_layout"), "torch.strided"),
                 Call(Global("torch.device"), "cpu"), False), parts)


def make_pickles():
    plain = {"norm.weight": tensor(Storage("torch.BFloat16Storage", "0", 32), [4, 8])}
    packed = {
        "lin.weight": wrapper("torchao.quantization.Int4TilePackedTo4dTensor", [8, 128], {
            "qdata": tensor(Storage("torch.IntStorage", "1", 128, "cuda:0"), [1, 1, 32, 4]),
            "scale_and_zero": tensor(Storage("torch.BFloat16Storage", "0", 16), [1, 8, 2]),
            "block_size": [1, 128], "act_pre_scale": None}),
        "norm.weight": tensor(Storage("torch.HalfStorage", "0", 32), [3, 4], offset=5),
    }
    write("pickle", "plain", dumps(plain))
    write("pickle", "packed", dumps(packed))
    write("pickle", "empty", dumps({}))
    write("pickle", "numbers", dumps({"a": [1, 300, 70000, -5, 1 << 40, True, None, (), (1,), (1, 2), (1, 2, 3)]}))
    write("pickle", "strange_global", dumps({"a": Call(Global("os.system"), "true")}))
    write("pickle", "empty_storage", dumps({"a": tensor(Storage("torch.FloatStorage", "2", 0), [0, 4])}))
    for name, program in {"plain": dumps(plain), "packed": dumps(packed)}.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("m/data.pkl", program)
            archive.writestr("m/byteorder", "little")
            archive.writestr("m/data/0", bytes(64))
            archive.writestr("m/data/1", bytes(512))
        write("zip", name, out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        with archive.open("m/data.pkl", "w", force_zip64=True) as entry:
            entry.write(dumps({}))
        archive.comment = b"a comment"
    write("zip", "zip64_entry", out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", "a" * 40)
    write("zip", "compressed", out.getvalue())
    # ZIP64 end records, as torch.save() writes beyond 4 GiB.
    name, body = b"m/data.pkl", dumps({})
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 45, 0, 0, 0, 0, 0, len(body), len(body), len(name), 0) + name + body
    extra = struct.pack("<HHQQQ", 1, 24, len(body), len(body), 0)
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name),
                          len(extra), 0, 0, 0, 0, 0xFFFFFFFF) + name + extra
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, len(central), len(local))
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(local) + len(central), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    write("zip", "zip64_end", local + central + end64 + locator + end)


def bytes_to_unicode():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(other)}


QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")


def make_tokenizers():
    def tokenizer(letters, merges, added, **more):
        vocab = {letter: i for i, letter in enumerate(letters)}
        for left, right in merges:
            vocab.setdefault(left + right, len(vocab))
        for token in added:
            token["id"] = len(vocab) + added.index(token)
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
            "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                               "use_regex": False},
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "byte_fallback": False, "vocab": vocab,
                      "merges": [list(m) for m in merges]} | more}

    def added(content, **flags):
        return {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} | flags

    text = "\xffIt's e\u0301 <|im_end|>\n x".encode("utf-8").replace("\xff".encode(), b"\xff")
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("i", "n"), ("\u0120", "\u0120")]
    alphabet = bytes_to_unicode()
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    write("tokenizer", "bytes", dump(tokenizer(list(alphabet.values()), merges, [added("<|im_end|>")])) + text)
    small = tokenizer(list("abcthein\u0120"), merges, [
        added("<|im_end|>"), added(" the", special=False, normalized=True, lstrip=True, rstrip=True),
        added("in", special=False, single_word=True), added("\u00e9", normalized=True)], ignore_merges=True)
    small["model"]["merges"] = [" ".join(m) for m in merges]
    write("tokenizer", "small", dump(small) + text)
    small["normalizer"] = None
    small["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\d{1,3}|[a-c]+?|(?i:T)|\S"}
    write("tokenizer", "other_pattern", dump(small) + b"\xffabc 123 the")
    token = {"content": "<more>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False, "special": False}
    config = {"added_tokens_decoder": {"7": token, "12": {"content": "the"}}, "pad_token": "<pad>",
              "additional_special_tokens": ["<|im_end|>", {"content": "<extra>"}], "add_prefix_space": False}
    write("tokenizer", "config_beside", dump(small) + b"\xffabc <more> the<pad><extra>\xff" + dump(config))


def make_templates():
    for name in ("thinking_and_tools", "corners"):
        write("template", name, (DATA / "chat_templates" / (name + ".jinja")).read_bytes())
    write("template", "short", b"{% for m in messages %}{{ m.role ~ m['content'][:3] | tojson }}{% endfor %}"
          b'\xff[{"role": "user", "content": "abcd"}]')


def make_configs():
    for name in ("awq", "gptq_desc_act", "torchao", "openvino"):
        config = (DATA / "checkpoints" / name / "config.json").read_text()
        write("config", name, config)
    config = json.loads((DATA / "checkpoints" / "gptq_desc_act" / "config.json").read_text())
    beside = config.pop("quantization_config")
    write("config", "beside", json.dumps(config).encode() + b"\xff" + json.dumps(beside).encode())


def make_variants():
    table = json.loads((HERE.parents[1] / "suites" / "variants.json").read_text())
    write("variants", "gptq", json.dumps({"gptq": table["gptq"]}, indent=2))
    write("variants", "two", json.dumps({"awq": table["awq"], "openvino": table["openvino"]}))


def make_results():
    tokens, logprobs = [[1, 2, 3], [1, 2, 3]], [[-0.5, -1.25, None], [-0.5, -1.25, -3]]
    mode = {"succeeded": True, "stats": None, "tokens": tokens, "logprobs": logprobs}
    older = json.loads((DATA / "results" / "older_gptq_investigation_20250115_105200.json").read_text())
    older["baseline"].update(tokens=tokens, logprobs=logprobs)
    older["deterministic"] = mode
    write("result", "older", json.dumps(older))
    write("result", "failure", json.dumps({"variant": "awq", "error": "it was not there", "success": False}))
    # Ours, cut to few tokens: made from the golden file of the writer.
    for path in sorted((HERE.parent / "golden" / "reporters").glob("*.json")):
        value = json.loads(path.read_text())
        text = json.dumps(value, separators=(",", ":"))
        if "schema_version" in value and len(text) < 30000:
            write("result", path.stem, text)


if __name__ == "__main__":
    make_safetensors()
    make_pickles()
    make_tokenizers()
    make_templates()
    make_configs()
    make_variants()
    make_results()
