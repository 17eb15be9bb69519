"""Tests of tests/check_skips.py."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "check_skips.py"
ALLOWED = "# a comment\n\nsuite.Mount: mounting is not permitted here\nsuite.Cores: needs two CPUs\n"
PASSED = '<testcase name="suite.Passes" status="run"><system-out>needs two CPUs</system-out></testcase>'


def skipped(name, output, status="notrun"):
    return (f'<testcase name="{name}" status="{status}"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
            f"<system-out>Skipped\n{output}\n</system-out></testcase>")


class CheckSkips(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def run_script(self, cases, labels=None, allowed=ALLOWED):
        (self.root / "junit.xml").write_text(f"<testsuite>{PASSED}{cases}</testsuite>", encoding="utf-8")
        (self.root / "allowed.txt").write_text(allowed, encoding="utf-8")
        listing = {"tests": [{"name": name, "properties": [{"name": "LABELS", "value": value}]}
                             for name, value in (labels or {}).items()]}
        (self.root / "labels.json").write_text(json.dumps(listing), encoding="utf-8")
        return subprocess.run(
            [sys.executable, SCRIPT, self.root / "junit.xml", "--labels", self.root / "labels.json",
             "--allowed", self.root / "allowed.txt"], capture_output=True, text=True, check=False)

    def test_nothing_skipped(self):
        ran = self.run_script("")
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))

    def test_a_skip_fails(self):
        for case in (skipped("suite.Other", "some reason"), skipped("suite.Other", "", status="run"),
                     '<testcase name="suite.Other" status="notrun"/>',
                     '<testcase name="suite.Other" status="disabled"/>'):
            ran = self.run_script(case, {"suite.Other": ["unit"]})
            self.assertEqual(ran.returncode, 1, case)
            self.assertIn("suite.Other was skipped", ran.stderr)

    def test_the_label_gpu_allows_it(self):
        case = skipped("suite.Device", "no device")
        self.assertEqual(self.run_script(case, {"suite.Device": ["unit", "gpu"]}).returncode, 0)
        self.assertEqual(self.run_script(case, {"suite.Device": ["unit", "cpu"]}).returncode, 1)
        self.assertEqual(self.run_script(case, {"suite.Other": ["gpu"]}).returncode, 1)

    def test_the_list_allows_a_name_with_its_reason_and_prints_it(self):
        ran = self.run_script(skipped("suite.Mount", "x.cc:1: Skipped mounting is not permitted here"))
        self.assertEqual(ran.returncode, 0)
        self.assertIn("NOT TESTED on this machine: suite.Mount: mounting is not permitted here", ran.stdout)

    def test_the_list_allows_nothing_else(self):
        for name, output in (("suite.Mount", "needs two CPUs"), ("suite.Mount", ""),
                             ("suite.Other", "mounting is not permitted here"),
                             ("suite.Mount2", "mounting is not permitted here")):
            self.assertEqual(self.run_script(skipped(name, output)).returncode, 1, (name, output))
        # One that is allowed does not cover another.
        both = skipped("suite.Cores", "needs two CPUs") + skipped("suite.Other", "needs two CPUs")
        ran = self.run_script(both)
        self.assertEqual(ran.returncode, 1)
        self.assertIn("suite.Other", ran.stderr)
        self.assertNotIn("suite.Cores", ran.stderr)

    def test_a_line_without_a_reason_is_an_error(self):
        for line in ("suite.Mount\n", "suite.Mount: \n", ": text\n"):
            ran = self.run_script("", allowed=line)
            self.assertEqual(ran.returncode, 2, line)
            self.assertIn("allowed.txt:1: expected", ran.stderr)

    def test_the_list_of_the_repository_can_be_read(self):
        (self.root / "junit.xml").write_text("<testsuite/>", encoding="utf-8")
        ran = subprocess.run([sys.executable, SCRIPT, self.root / "junit.xml"], capture_output=True, text=True, check=False)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
