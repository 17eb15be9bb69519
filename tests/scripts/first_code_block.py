#!/usr/bin/env python3
"""Writes the first C++ code block of a Markdown file to a file of its own.

Usage: first_code_block.py MARKDOWN OUTPUT

A #line directive makes the compiler name the Markdown file. A file without such a block, or whose block has no TEST,
is an error: nothing would be tested.
"""
import pathlib
import re
import sys


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    source = pathlib.Path(sys.argv[1])
    text = source.read_text(encoding="utf-8")
    block = re.search(r"^```cpp\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if block is None or not re.search(r"^TEST(_F|_P)?\(", block[1], re.MULTILINE):
        print(f"first_code_block: {source}: its first C++ block must hold a TEST", file=sys.stderr)
        return 1
    line = text.count("\n", 0, block.start(1)) + 1
    pathlib.Path(sys.argv[2]).write_text(f'#line {line} "{source.name}"\n{block[1]}', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
