"""Writes tests/data/chat_templates/cases.json, or compares with a built tokenizer_program.

    python3 render_templates.py write                            # the expected texts, by transformers
    python3 render_templates.py compare PROGRAM TEMPLATE...      # any template, on the same conversations

Needs transformers and jinja2 (a scratch environment outside of the repository).
"""
import itertools
import json
import pathlib
import random
import subprocess
import sys

from transformers.utils.chat_template_utils import render_jinja_template

DATA = pathlib.Path(__file__).parents[3] / "data" / "chat_templates"
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather of a place, \"now\" é <b>&'", "parameters": {
        "type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 1.5}},
        "required": ["place"]}}},
    {"type": "function", "function": {"name": "clock", "parameters": {}}}]


def turn(role, content, **more):
    return {"role": role, "content": content} | more


def conversations():
    call = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Paris", "days": 2, "x": None}}}
    text_call = {"name": "clock", "arguments": "{\"zone\": \"UTC\"}"}
    system, ask = turn("system", "You are brief."), turn("user", "What is 2 + 2?")
    thought = turn("assistant", "<think>\nTwo and two.\n</think>\n\nFour.")
    yield [ask]
    yield [system, ask]
    yield [system, ask, thought, turn("user", "And 3 + 3?")]
    yield [ask, thought]
    yield [ask, turn("assistant", "Four.", reasoning_content="\nTwo and two.\n")]
    yield [ask, turn("assistant", "Four.", reasoning_content=None), turn("user", "\u00e9\U0001f600")]
    yield [ask, turn("assistant", "\n\nFour.\n"), turn("system", "Be longer."), turn("user", " so ")]
    yield [ask, turn("assistant", "", tool_calls=[call])]
    yield [ask, turn("assistant", "I look.", tool_calls=[call, text_call]), turn("tool", "12 C"), turn("tool", "noon")]
    yield [system, ask, turn("assistant", "<think>\nhm\n</think>\n", tool_calls=[text_call]), turn("tool", "noon"),
           turn("assistant", "<think>so</think>It is noon."), turn("user", "Thanks."), turn("assistant", "</think>a</think>b")]
    yield [turn("user", "<tool_response>x</tool_response>"), turn("assistant", "ok")]
    yield [system]
    yield [ask, ask, turn("assistant", "x"), turn("assistant", "y", reasoning_content="z")]
    yield [turn("tool", "alone"), turn("assistant", "<think>unclosed")]


def random_conversations(count):
    rng = random.Random(3)
    pieces = ["<think>", "</think>", "\n", " ", "a", "Four.", "<tool_response>", "</tool_response>", "\u00e9", "{%", "{{ x }}",
              "\\n", "'", "\"", "\u3000", "\U0001f600", "<|im_end|>"]
    for _ in range(count):
        messages = []
        for _ in range(rng.randrange(1, 8)):
            message = turn(rng.choice(["system", "user", "assistant", "assistant", "tool"]),
                           "".join(rng.choices(pieces, k=rng.randrange(6))))
            if message["role"] == "assistant" and rng.random() < 0.3:
                message["reasoning_content"] = "".join(rng.choices(pieces, k=4))
            if message["role"] == "assistant" and rng.random() < 0.3:
                arguments = {rng.choice(pieces): rng.choice([1, 2.5, None, True, "\u00e9\n", [1, {}], 1e22, -3e-7])}
                message["tool_calls"] = [{"function": {"name": "f", "arguments": arguments}}] * rng.randrange(1, 3)
            messages.append(message)
        yield messages


def cases(conversation_list):
    settings = itertools.product([None, TOOLS], [False, True], [{}, {"enable_thinking": False}, {"enable_thinking": True}])
    settings = list(settings)
    for i, messages in enumerate(conversation_list):
        for tools, prompt, kwargs in settings if i < 14 else [settings[i % len(settings)]]:
            yield {"messages": messages, "tools": tools, "add_generation_prompt": prompt, "kwargs": kwargs}


def rendered(template, case):
    try:
        texts, _ = render_jinja_template([case["messages"]], tools=case["tools"], chat_template=template,
                                         add_generation_prompt=case["add_generation_prompt"], **case["kwargs"])
        return {"text": texts[0]}
    except Exception as error:  # what the template itself cannot take
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    if sys.argv[1] == "write":
        out = {}
        template = (DATA / "thinking_and_tools.jinja").read_text()
        out["thinking_and_tools.jinja"] = [c | rendered(template, c) for c in cases(list(conversations()))]
        template = (DATA / "corners.jinja").read_text()
        one = {"messages": [turn("user", "h\u00e9")], "tools": None, "add_generation_prompt": False, "kwargs": {}}
        out["corners.jinja"] = [one | rendered(template, one)]
        (DATA / "cases.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")
        print({name: (len(c), sum("error" in x for x in c)) for name, c in out.items()})
        return 0
    different = 0
    for path in sys.argv[3:]:
        template = pathlib.Path(path).read_text()
        all_cases = list(cases([*conversations(), *random_conversations(2000)]))
        lines = "".join(json.dumps(case) + "\n" for case in all_cases)
        ours = subprocess.run([sys.argv[2], "render", path], input=lines, capture_output=True, text=True)
        if ours.returncode != 0:
            print(path, "refused:", ours.stderr.strip())
            continue
        count = errors = 0
        for case, line in zip(all_cases, ours.stdout.split("\n")[:-1], strict=True):
            theirs, mine = rendered(template, case), json.loads(line)
            errors += "error" in theirs
            if theirs.get("text") != mine.get("text"):
                count += 1
                if count <= 3:
                    print(json.dumps(case), theirs, mine, sep="\n  ")
        different += count
        print(f"{path}: {len(all_cases)} conversations, {errors} that theirs refuses, {count} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
