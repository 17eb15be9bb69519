"""Trains a byte-level BPE with Qwen2's normalizer and pre-tokenizer on texts of this machine.

    python3 train_tokenizer.py OUT_FOLDER [VOCABULARY [MEGABYTES]]

Needs `tokenizers` (a scratch environment outside of the repository).
"""
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
ROOTS = ["/usr/share/doc", "/usr/share/perl", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/include",
         "/usr/share/locale", "/usr/share/i18n", "/usr/share/info", "/usr/share/unicode", sys.prefix]
ENDINGS = {".py", ".txt", ".html", ".rst", ".md", ".h", ".mo", ".pm", ".pod", ".json", "", ".hpp"}


def texts(megabytes):
    """Files in a random but fixed order, each at most 64 KB of it, until there is enough."""
    files = [p for root in ROOTS for p in pathlib.Path(root).rglob("*") if p.suffix in ENDINGS and p.is_file()]
    files.sort()
    random.Random(5).shuffle(files)
    left = megabytes * 1_000_000
    for path in files:
        if left <= 0:
            return
        try:
            data = path.read_bytes()[:65536]
        except OSError:
            continue
        if path.suffix == ".mo":
            text = data.decode("utf-8", "ignore").replace("\0", "\n")
        else:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                continue
        left -= len(text)
        yield text


def main():
    folder = pathlib.Path(sys.argv[1])
    vocabulary = int(sys.argv[2]) if len(sys.argv) > 2 else 150_000
    megabytes = int(sys.argv[3]) if len(sys.argv) > 3 else 80
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False, min_frequency=1, max_token_length=64)
    tokenizer.train_from_iterator(texts(megabytes), trainer)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|vision_pad|>"]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>", "<think>", "</think>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    print(tokenizer.get_vocab_size(), "tokens")


if __name__ == "__main__":
    main()
