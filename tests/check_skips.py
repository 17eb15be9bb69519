#!/usr/bin/env python3
"""Fails when a test that ctest reports was skipped or not run, unless it carries the label gpu.

Usage: check_skips.py JUNIT_XML --build FOLDER [--ctest PROGRAM]
       check_skips.py JUNIT_XML --labels JSON   (output of ctest --show-only=json-v1)
"""
import argparse
import json
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
    """Names of the tests of a ctest JUnit file that were skipped, disabled or not run."""
    suite = ET.parse(junit).getroot()
    return [
        case.get("name")
        for case in suite.iter("testcase")
        if case.get("status") in ("notrun", "disabled") or case.find("skipped") is not None
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("junit")
    parser.add_argument("--build")
    parser.add_argument("--ctest", default="ctest")
    parser.add_argument("--labels")
    arguments = parser.parse_args()

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
    unexpected = [name for name in skipped if "gpu" not in labels.get(name, set())]
    for name in unexpected:
        print(f"check_skips: {name} was skipped or not run and does not carry the label gpu", file=sys.stderr)
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
