"""serve_quality.py PROGRAM MODEL GOLDEN: golden.json's prompts that have one right answer, asked of
the server several at a time: calls of tools, in a chat with their schemas, and JSON objects."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor

from serve_server import Server, expect, finish

TOOLS_RIGHT, JSON_RIGHT = 98, 58 # of 100 and of 60


def tools_of(prompt):
    found = re.search(r"<tools>\n(.*?)\n</tools>", prompt, re.S).group(1)
    return [json.loads(line) for line in found.splitlines()]


def call_is_right(server, case, path):
    """Whether one call is made, the right one."""
    tools, asked = tools_of(case["prompt"]), [{"role": "user", "content": case["user"]}]
    right = (case["name"], case["arguments"])
    if path == "/v1/messages":
        tools = [{"name": t["function"]["name"], "description": t["function"]["description"],
                  "input_schema": t["function"]["parameters"]} for t in tools]
    status, answer = server.post(path, {"messages": asked, "tools": tools, "temperature": 0,
                                        "max_tokens": 200})
    if status != 200:
        return expect(False, f"{status}: {answer}") and False
    if path == "/v1/messages":
        calls = [(b["name"], b["input"]) for b in answer["content"] if b["type"] == "tool_use"]
        return calls == [right] and answer["stop_reason"] == "tool_use"
    calls = [(c["function"]["name"], json.loads(c["function"]["arguments"]))
             for c in answer["choices"][0]["message"].get("tool_calls", [])]
    return calls == [right] and answer["choices"][0]["finish_reason"] == "tool_calls"


def object_is_right(server, case):
    asked = re.search(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", case["prompt"], re.S).group(1)
    status, answer = server.post("/v1/chat/completions", {
        "messages": [{"role": "user", "content": asked}], "temperature": 0, "max_tokens": 200})
    if status != 200:
        return expect(False, f"{status}: {answer}") and False
    try:
        return json.loads(answer["choices"][0]["message"]["content"]) == case["arguments"]
    except ValueError:
        return False


def main():
    program, model, golden = sys.argv[1:]
    with open(golden, encoding="utf-8") as f:
        cases = json.load(f)
    with Server(program, ["--parallel", "8", "--ctx", "2048"], model=model) as s, \
            ThreadPoolExecutor(8) as pool:
        for path in ("/v1/chat/completions", "/v1/messages"):
            right = sum(pool.map(lambda c, p=path: call_is_right(s, c, p), cases["tool_prompts"]))
            print(f"{path}: {right} of {len(cases['tool_prompts'])} calls right")
            expect(right >= TOOLS_RIGHT, f"{right} calls right, not {TOOLS_RIGHT}")
        right = sum(pool.map(lambda c: object_is_right(s, c), cases["json_prompts"]))
        print(f"{right} of {len(cases['json_prompts'])} objects right")
        expect(right >= JSON_RIGHT, f"{right} objects right, not {JSON_RIGHT}")
    finish()


if __name__ == "__main__":
    main()
