#!/usr/bin/env python3
"""Fails when a test that ctest reports was skipped or not run.

Usage: check_skips.py JUNIT_XML --build FOLDER [--ctest PROGRAM]
       check_skips.py JUNIT_XML --labels JSON   (output of ctest --show-only=json-v1)

Content is: a test with the label gpu, and one that a machine may forbid, of the list in --allowed
(default: allowed_skips.txt beside this script). A line of the list is "TEST NAME: TEXT"; the skip is allowed where
the test's output holds that text, and is printed.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ET


def labels_by_test(listing):
    """Maps a test's name to its set of labels, from ctest's json-v1 listing."""
    found = {}
    for test in listing.get("tests", []):
        for entry in test.get("properties", []):
            if entry["name"] == "LABELS":
                found.setdefault(test["name"], set()).update(entry["value"])
    return found


def not_run(junit):
    """Maps the tests of a ctest JUnit file that were skipped, disabled or not run to their output."""
    suite = ET.parse(junit).getroot()
    return {
        case.get("name"): case.findtext("system-out") or ""
        for case in suite.iter("testcase")
        if case.get("status") in ("notrun", "disabled") or case.find("skipped") is not None
    }


def read_allowed(path):
    """Maps a test's name to the text of its skip."""
    allowed = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, text = line.partition(": ")
        if not colon or not name.strip() or not text.strip():
            raise ValueError(f"{path}:{number}: expected TEST NAME: TEXT OF THE SKIP")
        allowed[name.strip()] = text.strip()
    return allowed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("junit")
    parser.add_argument("--build")
    parser.add_argument("--ctest", default="ctest")
    parser.add_argument("--labels")
    parser.add_argument("--allowed", type=pathlib.Path, default=pathlib.Path(__file__).with_name("allowed_skips.txt"))
    arguments = parser.parse_args()

    try:
        allowed = read_allowed(arguments.allowed)
    except (OSError, ValueError) as error:
        print(f"check_skips: {error}", file=sys.stderr)
        return 2
    skipped = not_run(arguments.junit)
    if not skipped:
        return 0
    if arguments.labels:
        with open(arguments.labels, encoding="utf-8") as file:
            listing = json.load(file)
    else:
        listing = json.loads(
            subprocess.run(
                [arguments.ctest, "--test-dir", arguments.build, "--show-only=json-v1"],
                check=True, capture_output=True, text=True).stdout)
    labels = labels_by_test(listing)
    failed = False
    for name, output in skipped.items():
        if "gpu" in labels.get(name, set()):
            continue
        if name in allowed and allowed[name] in output:
            print(f"check_skips: NOT TESTED on this machine: {name}: {allowed[name]}")
            continue
        print(f"check_skips: {name} was skipped or not run, and neither its label nor its reason allows that",
              file=sys.stderr)
        failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
