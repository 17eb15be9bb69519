"""Compares a built tokenizer_program with Hugging Face `tokenizers` on one tokenizer.json.

    python3 compare_tokenizer.py PROGRAM FOLDER [strings|boundaries|later|text|time|added]...

strings     100,000 random strings over the code points that Unicode 14 assigns
boundaries  every code point of Unicode 14 alone and between others, ends of classes, contractions, blanks, added tokens
later       every code point assigned after Unicode 14, in four places: which of them differ
text        10 MB of text of this machine, in pieces and as one
added       the same tokenizer with many added tokens: normalized or not, stripping, single words; 20,000 strings
time        the text as one string, one thread: seconds, theirs beside

Needs `tokenizers` (a scratch environment outside of the repository) and unicodedata of Unicode 14 (Python 3.11).
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import unicodedata

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
from tokenizers import AddedToken, Tokenizer  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from train_tokenizer import texts  # noqa: E402

ASSIGNED = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def ours(program, folder, strings, mode="encode"):
    lines = "".join(json.dumps(s) + "\n" for s in strings)
    run = subprocess.run([program, mode, str(folder)], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.split("\n")[:-1]]


def encoded(tokenizer, text):
    """None where tokenizers panics, as 0.23 does on some added tokens that strip ("AddedVocabulary bad split")."""
    try:
        return tokenizer.encode(text).ids
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


def pieces_of(tokenizer, strings):
    """The pre-tokens, which ids do not always show; in the byte alphabet's place plain text."""
    split = Tokenizer.from_str(tokenizer.to_str())
    parts = json.loads(split.to_str())
    parts["pre_tokenizer"] = parts["pre_tokenizer"]["pretokenizers"][0]
    split = Tokenizer.from_str(json.dumps(parts))
    return [[p for p, _ in split.pre_tokenizer.pre_tokenize_str(split.normalizer.normalize_str(s))] for s in strings]


def compare(program, folder, tokenizer, name, strings):
    """Ids of every string, the texts that the ids decode to, and the pre-tokens."""
    different = []
    if name != "added":
        pieces = [(s, a, b) for s, a, b in zip(strings, pieces_of(tokenizer, strings),
                                               ours(program, folder, strings, "split"), strict=True) if a != b]
        print(f"{name}: {len(pieces)} of {len(strings)} are cut in other places")
        different += pieces
    refused = 0
    for begin in range(0, len(strings), 20000):
        part = strings[begin:begin + 20000]
        pairs = [(s, ids) for s in part if (ids := encoded(tokenizer, s)) is not None]
        refused += len(part) - len(pairs)
        part, theirs = [s for s, _ in pairs], [ids for _, ids in pairs]
        mine = ours(program, folder, part)
        decoded = ours(program, folder, theirs, "decode")
        for s, a, b, text in zip(part, theirs, mine, decoded, strict=True):
            if a != b or text != tokenizer.decode(a, skip_special_tokens=False):
                different.append((s, a, b))
    print(f"{name}: {len(strings)} strings, {sum(map(len, strings))} characters, {len(different)} differ, "
          f"{refused} where theirs panics", flush=True)
    for s, a, b in different[:5]:
        print("  ", ascii(s), a, b)
    return different


def random_strings(count, seed=1):
    """Short strings: some of all characters, some of few scripts, with blanks, marks and quotes among them."""
    rng = random.Random(seed)
    marks = [c for c in ASSIGNED if unicodedata.combining(c)]
    blanks = list(" \t\n\r\u0085\u00a0\u1680\u180e\u2003\u2028\u3000\u200b\ufeff")
    common = list("abcXYZ019'.,!-_ \n") + ["'s", "'LL", "<|im_end|>", "<think>", "\u017f", "'\u017f"]
    for _ in range(count):
        start = rng.randrange(len(ASSIGNED))
        near = ASSIGNED[start:start + 40]
        out = []
        for _ in range(rng.randrange(1, 24)):
            kind = rng.random()
            source = ASSIGNED if kind < 0.35 else near if kind < 0.6 else marks if kind < 0.7 else blanks if kind < 0.8 else common
            out.append(rng.choice(source))
        yield "".join(out)


def boundaries():
    for c in ASSIGNED:
        yield f"{c}"
        yield f"a{c}1 {c}\n{c}'s"
    for a in " \t\n\r\u0085\u00a0\u2028\u3000x9!":
        for b in " \t\n\r\u0085\u00a0\u2028\u3000x9!":
            for c in " \t\n\r\u0085\u00a0\u2028\u3000x9!":
                for end in ("", "x", "\n", " "):
                    yield a + b + c + end
    for word in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        for text in {word, word.upper(), word.title(), word.replace("s", "\u017f"), word[:-1] + word[-1].upper()}:
            yield from (text, "it" + text, "it" + text + "x", " " + text, "\u2019" + text[1:], "1" + text + "\u0301")
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "<think>", "</think>"):
        yield from (token, token * 2, " " + token + " ", "a" + token + "\u0301b", token[:-1], token[1:], token[:5] + token)
    yield ""
    yield from (" " * n + "x" for n in range(70))
    yield from ("\n" * n + " " * m for n in range(8) for m in range(8))
    yield from ("1" * n for n in range(12))


def later(program, folder, tokenizer):
    """Code points that are not assigned in Unicode 14, each where a letter, a mark or a symbol shows."""
    rest = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn"]
    strings = [s for c in rest for s in (c, "a" + c + "b", "1" + c + " !" + c, "e" + c + "\u0301\u0323")]
    theirs = [tokenizer.encode(s).ids for s in strings]
    pairs = {"ids": (theirs, ours(program, folder, strings)),
             "pieces": (pieces_of(tokenizer, strings), ours(program, folder, strings, "split"))}
    for name, (theirs, mine) in pairs.items():
        points = {ord(rest[i // 4]) for i, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b}
        ranges = []
        for c in sorted(points):
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
        print(f"later, {name}: of {len(rest)} code points that Unicode 14 does not assign {len(points)} differ:",
              " ".join(f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in ranges))


def with_added(folder, out):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    contents = ["ab", "a", " x", "\u00e9", "e\u0301", "<s>", "<<s>>", "the", "\u00df", "\n", "  ", "\u4e2d", "<|im", "Z9", "'s"]
    for i, text in enumerate(contents):
        tokenizer.add_tokens([AddedToken(text, lstrip=bool(i & 1), rstrip=bool(i & 2), single_word=bool(i & 4),
                                         normalized=bool((i * 7) & 8))])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    rng = random.Random(9)
    pieces = contents + [" ", "\n", "x", "1", "_", "\u0301", "\u200d", "\u3000", "b", "\u00c9", "-", "<|im_end|>"]
    return tokenizer, ["".join(rng.choices(pieces, k=rng.randrange(1, 14))) for _ in range(20000)]


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    what = sys.argv[3:] or ["strings", "boundaries", "later", "text", "added", "time"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    different = []
    check = lambda name, strings: different.extend(compare(program, folder, tokenizer, name, strings))
    if "strings" in what:
        check("strings", list(random_strings(100_000)))
    if "boundaries" in what:
        check("boundaries", list(boundaries()))
    if "later" in what:
        later(program, folder, tokenizer)
    whole = "".join(texts(10)) if {"text", "time"} & set(what) else ""
    if "text" in what:
        check("text, in lines", whole.splitlines(keepends=True))
        check("text, as one", [whole])
    if "added" in what:
        other, strings = with_added(folder, folder / "added")
        different.extend(compare(program, folder / "added", other, "added", strings))
    if "time" in what:
        start = time.perf_counter()
        count = len(tokenizer.encode(whole).ids)
        theirs = time.perf_counter() - start
        run = subprocess.run([program, "time", str(folder)], input=whole, capture_output=True, text=True, check=True)
        reading, seconds, ids = run.stdout.split()
        print(f"time: {len(whole.encode()) / 1e6:.1f} MB, {count} ids: theirs {theirs:.2f} s; ours {seconds} s ({ids} ids), "
              f"and {reading} s to read tokenizer.json")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
