#!/usr/bin/env python3
"""Profiles what quant_benchmarks runs with Nsight Compute and writes a Markdown table, a row for each kernel.

Usage: profile_kernels.py --program build/bin/quant_benchmarks [--ncu ncu] [--csv FILE] [--markdown FILE] [-- ARGUMENTS]
       profile_kernels.py --read FILE      only the table of a CSV file that was kept

ARGUMENTS choose what runs, as for the benchmarks; unset: --layers gate_up --rows 1,16,64,512 and our kernels.
--variants awq_marlin: the operations of a model's middle layer, in a prefill and in a decode step, and its head. Each
runs once, its caches flushed, under the clocks as they are; one multiplication may launch several kernels. Reading the
performance counters of a GPU needs permission.
"""
import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile

STALLS = ["long_scoreboard", "short_scoreboard", "barrier", "wait", "math_pipe_throttle", "mio_throttle", "lg_throttle",
          "gmma", "membar", "branch_resolving", "no_instruction", "not_selected", "selected", "dispatch_stall", "drain",
          "sleeping", "tex_throttle", "imc_miss", "misc"]
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
TIME = "gpu__time_duration.sum"
READ = "dram__bytes_read.sum"
MEMORY = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
L2 = "lts__throughput.avg.pct_of_peak_sustained_elapsed"
TENSOR = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed"
ISSUE = "sm__inst_issued.avg.pct_of_peak_sustained_elapsed"
WARPS = "sm__warps_active.avg.pct_of_peak_sustained_active"
REGISTERS = "launch__registers_per_thread"
SHARED = "launch__shared_mem_per_block"
BLOCKS = "launch__grid_size"
THREADS = "launch__block_size"
METRICS = [TIME, READ, MEMORY, L2, TENSOR, ISSUE, WARPS, REGISTERS, SHARED, BLOCKS, THREADS]
RANGE = re.compile(r"\b(qkv|o|gate_up|down|prefill|decode)/(?:m:)?(\w+)/(\w+?)(?=:|\"|$|\s)")
TO_MICROSECONDS = {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3, "s": 1e6, "second": 1e6}
TO_MEGABYTES = {"byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1, "Gbyte": 1e3}


def read_rows(path):
    """[{column: text}], {column: unit} of the raw page: a header, a line of units, a line for each kernel."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        lines = list(csv.reader(line for line in file if line.startswith('"')))
    if len(lines) < 3:
        sys.exit(f"profile_kernels.py: no kernel in {path}")
    header, units = lines[0], lines[1]
    return [dict(zip(header, line)) for line in lines[2:]], dict(zip(header, units))


def number(row, name):
    try:
        return float(row[name].replace(",", ""))
    except (KeyError, ValueError):
        return None


def short_name(text):
    """The function's name and its template arguments that are numbers."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::", "", text)
    name = re.sub(r"^void ", "", name).split("(")[0]
    match = re.match(r"([\w:~]+)(<.*>)?", name)
    if not match:
        return name[:40]
    numbers = re.findall(r"\d+", match[2] or "")
    return match[1].split("::")[-1][:36] + (f"<{','.join(numbers[:6])}>" if numbers else "")


def text_of(value, digits=0):
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows, units):
    lines = ["| layer or phase | M or operation | kernel of | function | us | read MB | memory % | L2 % | tensor % | issue % | warps % | registers "
             "| shared KB | grid x block | stalls, cycles an instruction |", "|" + "---|" * 15]
    for row in rows:
        found = next((m for m in (RANGE.search(value) for value in row.values()) if m), None)
        layer, rows_of_x, provider = found.groups() if found else ("?", "?", "?")
        time, read = number(row, TIME), number(row, READ)
        if time is not None:
            time *= TO_MICROSECONDS.get(units.get(TIME, "ns"), 1)
        if read is not None:
            read *= TO_MEGABYTES.get(units.get(READ, "byte"), 1)
        shared = number(row, SHARED)
        if shared is not None:
            shared *= {"byte": 1e-3, "byte/block": 1e-3, "Kbyte": 1, "Kbyte/block": 1}.get(units.get(SHARED, "byte"), 1)
        stalls = sorted(((number(row, STALL.format(name)) or 0, name) for name in STALLS if name != "selected"), reverse=True)
        lines.append("| " + " | ".join([
            layer, rows_of_x, provider, f"`{short_name(row.get('Kernel Name', '?'))}`", text_of(time, 1), text_of(read, 1),
            *(text_of(number(row, name)) for name in (MEMORY, L2, TENSOR, ISSUE, WARPS, REGISTERS)), text_of(shared, 1),
            f"{text_of(number(row, BLOCKS))} x {text_of(number(row, THREADS))}",
            ", ".join(f"{name} {value:.1f}" for value, name in stalls[:3] if value >= 0.05)]) + " |")
    return "\n".join(lines) + "\n"


def profile(arguments, path):
    chosen = arguments.arguments or ["--layers", "gate_up", "--rows", "1,16,64,512", "--providers",
                                     "marlin,awq,gptq,gptq_ordered"]
    command = [arguments.ncu, "--clock-control", "none", "--cache-control", "all", "--profile-from-start", "off", "--nvtx",
               "--csv", "--page", "raw", "--log-file", path, "--metrics",
               ",".join(METRICS + [STALL.format(name) for name in STALLS]), arguments.program, "--once", *chosen]
    environment = dict(os.environ, DETERMINISM_NO_CUPTI="1")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        with open(path, encoding="utf-8", errors="replace") as file:
            errors = [line.strip() for line in file if "==ERROR==" in line or "ERR_" in line]
        sys.exit("profile_kernels.py: ncu failed: " + " ".join(errors or [done.stdout.strip()])[-500:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program")
    parser.add_argument("--ncu", default="ncu")
    parser.add_argument("--csv", help="keep what ncu wrote")
    parser.add_argument("--markdown", help="also write the table to this file")
    parser.add_argument("--read", help="only the table of this CSV file")
    parser.add_argument("arguments", nargs="*")
    arguments = parser.parse_args()
    if not arguments.read and not arguments.program:
        parser.error("give --program or --read")
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.read or arguments.csv or os.path.join(folder, "ncu.csv")
        if not arguments.read:
            profile(arguments, path)
        text = table(*read_rows(path))
    print(text, end="")
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
