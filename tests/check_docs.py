#!/usr/bin/env python3
"""Fails when a Markdown file holds a placeholder (@NAME@) or a relative link to nothing.

Usage: check_docs.py FOLDER

Reads every *.md below FOLDER, but for hidden folders and those of a build. A link's #anchor must be a heading of the
file that it leads to. Code is not searched for links, but is for placeholders.
"""
import os
import pathlib
import re
import sys
import urllib.parse

PLACEHOLDER = re.compile(r"@[A-Z][A-Z0-9_]*@")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)")
FENCE = re.compile(r"^\s{0,3}(```+|~~~+)")


def markdown_files(root):
    for folder, folders, files in os.walk(root):
        at_root = pathlib.Path(folder) == root
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and not (at_root and re.fullmatch(r"build(-.*)?|results|third_party", name)))
        for name in sorted(files):
            if name.endswith(".md"):
                yield pathlib.Path(folder, name)


def prose_lines(text):
    """(line number, line) outside of fenced code, with the code spans taken out."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        mark = FENCE.match(line)
        if mark and fence is None:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = None
        elif fence is None:
            yield number, re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)


def anchors(text):
    """The anchors of a file's headings, as GitHub makes them."""
    found = {}
    fence = None
    for line in text.splitlines():
        mark = FENCE.match(line)
        if mark and fence is None:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = None
        heading = None if fence else re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            count = found[slug] = found.get(slug, -1) + 1
            if count:
                found[f"{slug}-{count}"] = 0
    return set(found)


def link_error(target, file, root):
    """What is wrong with a link in this file, or None."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", target):
        return None
    path, _, anchor = urllib.parse.unquote(target).partition("#")
    aim = (file.parent / path).resolve() if path else file.resolve()
    if not aim.is_relative_to(root.resolve()):
        return "leads out of the repository"
    if not aim.exists():
        return "leads to nothing"
    if anchor and aim.suffix == ".md" and anchor not in anchors(aim.read_text(encoding="utf-8")):
        return f"names a heading that {aim.name} does not have"
    return None


def errors(root):
    for file in markdown_files(root):
        name = file.relative_to(root)
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            for placeholder in PLACEHOLDER.findall(line):
                yield f"{name}:{number}: placeholder {placeholder}"
        for number, line in prose_lines(text):
            for link in LINK.finditer(line):
                target = link[1] or link[2]
                error = link_error(target, file, root)
                if error:
                    yield f"{name}:{number}: the link {target} {error}"


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(sys.argv[1])
    if not any(True for _ in markdown_files(root)):
        print(f"check_docs: no Markdown file below {root}", file=sys.stderr)
        return 1
    found = list(errors(root))
    for error in found:
        print(f"check_docs: {error}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
