"""Tests of first_code_block.py."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().with_name("first_code_block.py")


class FirstCodeBlock(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def extract(self, text):
        """(exit code, block or None, message)"""
        (self.root / "a.md").write_text(text, encoding="utf-8")
        output = self.root / "out.inc"
        output.unlink(missing_ok=True)
        ran = subprocess.run([sys.executable, SCRIPT, self.root / "a.md", output], capture_output=True, text=True, check=False)
        return ran.returncode, output.read_text(encoding="utf-8") if output.exists() else None, ran.stderr

    def test_the_first_cpp_block_and_its_line(self):
        text = "x\n```sh\n./quant\n```\n\n```cpp\n#include <a>\nTEST(A, B) {}\n```\n\n```cpp\nTEST(C, D) {}\n```\n"
        self.assertEqual(self.extract(text), (0, '#line 7 "a.md"\n#include <a>\nTEST(A, B) {}\n', ""))

    def test_nothing_to_test_is_an_error(self):
        for text in ("", "```sh\nTEST(A, B)\n```\n", "```cpp\nint x;\n```\n", "```cpp\nTEST(A, B) {}\n",
                     "```cpp\nint x;\n```\n```cpp\nTEST(A, B) {}\n```\n"):
            code, block, message = self.extract(text)
            self.assertEqual((code, block), (1, None), text)
            self.assertIn("must hold a TEST", message)


if __name__ == "__main__":
    unittest.main()
