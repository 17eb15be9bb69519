"""Tests of tests/check_docs.py."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "check_docs.py"


class CheckDocs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.write("docs/other.md", "# Its heading: `x` and y\n\n```\n# a comment\n```\n\n## Twice\n\n## Twice\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def errors(self, readme):
        """The lines about a README.md with this text; none where the script is content."""
        self.write("README.md", readme)
        ran = subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True, check=False)
        lines = ran.stderr.splitlines()
        self.assertEqual(ran.returncode, 1 if lines else 0, ran.stderr)
        return lines

    def test_sound_links(self):
        self.assertEqual(self.errors(
            "# Top\n[a](docs/other.md) [b](<docs/other.md> \"title\") [c](docs) [d](#top) ![e](README.md)\n"
            "[f](docs/other.md#its-heading-x-and-y) [g](docs/other.md#twice-1) [h](https://example.org/none.md)\n"
            "[i](mailto:a@example.org)\n\n[j]: docs/other.md\n"), [])

    def test_placeholders(self):
        self.assertEqual(self.errors("text\n@TABLE@ and @MORE_OF_IT@\n"), [
            "check_docs: README.md:2: placeholder @TABLE@", "check_docs: README.md:2: placeholder @MORE_OF_IT@"])
        self.assertEqual(self.errors("```\n@INSIDE@\n```\n"), ["check_docs: README.md:2: placeholder @INSIDE@"])
        self.assertEqual(self.errors("a@B.org and @Override and @@\n"), [])

    def test_dead_links(self):
        self.assertEqual(self.errors("[a](docs/none.md)\n"),
                         ["check_docs: README.md:1: the link docs/none.md leads to nothing"])
        self.assertEqual(self.errors("x\n\n[a]: docs/none.md\n"),
                         ["check_docs: README.md:3: the link docs/none.md leads to nothing"])
        self.assertEqual(self.errors("[a](../outside.md)\n"),
                         ["check_docs: README.md:1: the link ../outside.md leads out of the repository"])
        for anchor in ("none", "a-comment", "twice-2"):
            self.assertEqual(self.errors(f"[a](docs/other.md#{anchor})\n"), [
                f"check_docs: README.md:1: the link docs/other.md#{anchor} names a heading that other.md does not have"])

    def test_below_folders(self):
        self.write("docs/deep/er.md", "[up](../../README.md) [a](../none.md)\n")
        self.assertEqual(self.errors("x\n"), ["check_docs: docs/deep/er.md:1: the link ../none.md leads to nothing"])

    def test_code_has_no_links(self):
        self.assertEqual(self.errors("`v[i](x)` and\n```cpp\nout[i](x);\n~~~\n[b](none)\n```\n"), [])
        # The fence ends: what follows is prose again.
        self.assertEqual(len(self.errors("```cpp\nout[i](x);\n```\n[a](none)\n")), 1)

    def test_folders_left_out(self):
        for folder in ("build", "build-asan", ".venv", "results", "third_party"):
            self.write(f"{folder}/x.md", "@X@\n")
        self.assertEqual(self.errors("x\n"), [])
        self.write("builder/build/x.md", "@X@\n")
        self.assertEqual(self.errors("x\n"), ["check_docs: builder/build/x.md:1: placeholder @X@"])

    def test_nothing_to_read_is_an_error(self):
        empty = self.root / "empty"
        empty.mkdir()
        ran = subprocess.run([sys.executable, SCRIPT, empty], capture_output=True, text=True, check=False)
        self.assertEqual(ran.returncode, 1)
        self.assertIn("no Markdown file", ran.stderr)


if __name__ == "__main__":
    unittest.main()
