"""serve_http.py PROGRAM: the server as those meet it who send what they should not, with Python's
own library alone: limits, keys, sites, wrong members, broken bodies; each refused in one line, in
the form of the API that was asked."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from serve_server import DEMO, PATIENCE, Server, expect, finish

CHAT, COMPLETE, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
HELLO = [{"role": "user", "content": "Hello"}]
JSON = {"Content-Type": "application/json"}


def error_of(path, data, what):
    """The message of an error, which must have the form of its API."""
    try:
        body = json.loads(data)
        error = body["error"]
        if path.startswith("/v1/messages"):
            expect(body["type"] == "error" and set(error) == {"type", "message"}, f"{what}: {data}")
        else:
            expect({"message", "type", "param", "code"} == set(error), f"{what}: {data}")
        expect("\n" not in error["message"], f"{what}: more than a line")
        return error["message"]
    except (ValueError, KeyError, TypeError):
        expect(False, f"{what}: no error in its API's form: {data!r}")
        return ""


def refuse(s, path, body, words, status=400, headers=None, method="POST"):
    got, _, data = s.ask(method, path, body, headers)
    what = f"{method} {path} {str(body)[:100]}"
    message = error_of(path, data, what)
    expect(got == status, f"{what}: {got}, not {status}: {data!r}")
    expect(words in message, f"{what}: says '{message}', not '{words}'")


# ---- members -------------------------------------------------------------------------------------

def wrong_options(s):
    wrong = {
        "temperature": (["hot", -1, 101, 1e999, [], True], "temperature"),
        "top_p": ([-0.1, 1.1, "1"], "top_p"),
        "top_k": ([-1, 1.5, 1e300, "4", 2**32], "top_k"),
        "min_p": ([2, {}], "min_p"),
        "seed": (["x", 1.5, 10**15 + 0.5], "seed"),
        "stop": ([5, [1], [""], "", ["a"] * 17, {"a": 1}, "x" * 5000, "a\0b"], "stop"),
        "max_tokens": ([0, -1, 1.5, "5", 10**12, []], "max_tokens"),
        "presence_penalty": ([1000, "a"], "presence_penalty"),
        "frequency_penalty": ([-1000], "frequency_penalty"),
        "repetition_penalty": ([0, -1], "repetition_penalty"),
        "stream": ([1, "true", []], "stream"),
        "stream_options": ([1, "x", []], "stream_options"),
        "n": ([2, 0, "1", 1.5], "n: only 1"),
        "model": ([5, [], {}], "model"),
        "logit_bias": ([{"5": 1}], "logit_bias"),
        "response_format": ([{"type": "xml"}, 5, {}], "response_format"),
    }
    for key, (values, words) in wrong.items():
        for value in values:
            body = json.dumps({"messages": HELLO, "prompt": "x", "max_tokens": 4} | {key: value})
            body = body.replace("Infinity", "1e999").encode()
            words_now = "body" if b"1e999" in body else words
            refuse(s, CHAT, body, words_now)
            refuse(s, COMPLETE, body, words_now)
    chat = {
        "logprobs": ([1, "yes"], "logprobs"),
        "top_logprobs": ([5, -1, 21, "x"], "top_logprobs"),
        "tools": ([5, {}, [5], [{"type": "x"}], [{"type": "function"}],
                   [{"type": "function", "function": {"name": 5}}]], "tools"),
        "tool_choice": ([5, "x", "required", {"type": "function", "function": {"name": "x"}}],
                        "tool_choice"),
        "chat_template_kwargs": ([5, []], "chat_template_kwargs"),
        "reasoning_effort": ([5], "reasoning_effort"),
        "functions": ([[{"name": "x"}]], "functions"),
        "audio": ([{"voice": "x"}], "audio"),
    }
    for key, (values, words) in chat.items():
        for value in values:
            refuse(s, CHAT, {"messages": HELLO, "max_tokens": 4} | {key: value}, words)
    for key, value in {"echo": True, "suffix": "x", "best_of": 3, "logprobs": 21}.items():
        refuse(s, COMPLETE, {"prompt": "x", "max_tokens": 4} | {key: value}, key)


def wrong_messages(s):
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    wrong = [
        (5, "messages"), ([], "messages"), ("x", "messages"), (None, "messages"),
        ([5], "messages[0]"),
        ([{}], "messages[0].role"), ([{"role": "boss"}], "messages[0].role"),
        ([{"role": 5, "content": ""}], "messages[0].role"),
        (HELLO + [{"role": "user", "content": 5}], "messages[1].content"),
        ([{"role": "user", "content": [5]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [image]}], "image_url"),
        ([{"role": "user", "content": [{"type": "é" * 60}]}], "not supported"),
        ([{"role": "assistant", "tool_calls": 5}], "tool_calls"),
        ([{"role": "assistant", "tool_calls": [5]}], "tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": "x"}}]}], ".id"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": 5}}]}],
         "arguments"),
        (HELLO + [{"role": "tool", "tool_call_id": 5, "content": "x"}], "tool_call_id"),
    ]
    for messages, words in wrong:
        refuse(s, CHAT, {"messages": messages, "max_tokens": 4}, words)
    for prompt in (5, None, {}, ["a", "b"], [[1, 2], [3]], [-1], [1, "a"], [10**9], [1.5], ""):
        refuse(s, COMPLETE, {"prompt": prompt, "max_tokens": 4}, "prompt")
    for body, words in (("[]", "object"), ("5", "body"), ("", "body"), ("{", "body"),
                        ('{"a":1,"a":2}', "body"), ("nonsense", "body"), ("null", "body"),
                        ("[" * 100000, "body"), ('{"prompt":"\\ud800"}', "body")):
        refuse(s, COMPLETE, body.encode(), words)
    refuse(s, COMPLETE, b'{"prompt":"\xff\xfe"}', "body")
    refuse(s, COMPLETE, b"\0\1\2", "body")


def prompt_of(s, call):
    """The tokens of a conversation with this call in it; a tool has answered it."""
    messages = HELLO + [{"role": "assistant", "content": None, "tool_calls": [call]},
                        {"role": "tool", "tool_call_id": "a", "content": "done"}]
    status, answer = s.post(CHAT, {"messages": messages, "max_tokens": 1})
    expect(status == 200, f"{call}: {answer}")
    return answer["usage"]["prompt_tokens"] if status == 200 else 0


def odd_arguments(s):
    """What a model wrote as arguments goes into the next request, whatever it is: a conversation
    must be able to go on."""
    def tokens_of(arguments, id_="a"):
        return prompt_of(s, {"id": id_, "type": "function",
                             "function": {"name": "look", "arguments": arguments}})
    none = tokens_of("{}")
    for empty in ("", " \n", "null", None, {}):
        expect(tokens_of(empty) == none, f"arguments {empty!r} are not none")
    expect(tokens_of('{"a": 1}') > none, "arguments are lost")
    expect(tokens_of("{}", None) == none, "a call without an id")
    def said(content):
        messages = HELLO + [{"role": "assistant", "content": content}] + HELLO
        return s.post(CHAT, {"messages": messages, "max_tokens": 1})[1].get("usage")
    expect(said([{"type": "refusal", "refusal": "I will not."}]) == said("I will not."),
           "an answer that was a refusal")
    for broken in ('{"a":', "[]", "5", '"x"', '{"a": 1, "a": 2}', '{"a": "\\ud800"}'):
        expect(tokens_of(broken) >= none, f"arguments {broken!r}")


def wrong_anthropic(s):
    use = {"type": "tool_use", "id": "a", "name": "b", "input": {}}
    wrong = [
        ({"max_tokens": None}, "max_tokens"), ({"max_tokens": "5"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "image"),
        ({"messages": HELLO + [{"role": "user", "content": [{"type": "text"}]}]},
         "messages[1].content[0].text: expected a string"),
        ({"messages": HELLO + [{"role": "assistant", "content": [{"type": "text", "text": 5}]}]},
         "messages[1].content[0].text: expected a string"),
        ({"messages": HELLO + [{"role": "assistant", "content": "Sure, "}]}, "messages[1]: "),
        ({"tools": [{"type": "web_search_20250305", "name": "x"}]}, "web_search_20250305"),
        ({"messages": [{"role": "user", "content": [use]}]}, "tool_use"),
        ({"messages": [{"role": "assistant", "content": [use | {"id": 5}]}]}, ".id"),
        ({"messages": [{"role": "assistant", "content": [use | {"input": 5}]}]}, ".input"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"system": 5}, "system"), ({"tools": 5}, "tools"), ({"tools": [{}]}, "tools[0].name"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"), ({"thinking": 5}, "thinking"),
        ({"thinking": {"type": "x"}}, "thinking"), ({"stop_sequences": [5]}, "stop_sequences"),
        ({"temperature": "x"}, "temperature"), ({"stream": 5}, "stream"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "format"),
    ]
    for change, words in wrong:
        refuse(s, MESSAGES, {"messages": HELLO, "max_tokens": 4} | change, words)
    status, answer = s.post(MESSAGES + "/count_tokens", {"model": "x", "messages": HELLO})
    expect(status == 200 and answer["input_tokens"] > 3, f"count_tokens: {answer}")


def anthropic_prompts(s):
    """What of a request is in the prompt, by its length."""
    def tokens_of(messages, **more):
        body = {"model": "x", "messages": messages} | more
        status, answer = s.post(MESSAGES + "/count_tokens", body)
        expect(status == 200, f"count_tokens {body}: {answer}")
        return answer.get("input_tokens")
    once = tokens_of(HELLO)
    for empty in ("", [], [{"type": "text", "text": ""}]):
        turn = {"role": "user", "content": empty}
        expect(tokens_of(HELLO + [turn]) > once, f"an empty message is left out: {empty}")
    said = [{"role": "assistant", "content": "Hi"}]
    expect(tokens_of(HELLO + said) > once, "a conversation that ends with an answer is counted")
    # Claude Code's first block is another in each request, and is not for the model.
    def system(changing):
        return [{"type": "text", "text": "x-anthropic-billing-header: cch=" + changing},
                {"type": "text", "text": "You are a sailor."}]
    plain = tokens_of(HELLO, system="You are a sailor.")
    expect(plain > once, "the system's text is left out")
    for changing in ("0", "1234567890abcdef"):
        expect(tokens_of(HELLO, system=system(changing)) == plain, "a billing header is read")
    expect(tokens_of(HELLO, system=system("0")[:1]) == once, "a billing header alone")


# ---- protocol ------------------------------------------------------------------------------------

def paths(s):
    for path in ("/nowhere", "/v1", "/v1/chat/completions/", "/%ff%fe", "/v1/messages/nowhere"):
        refuse(s, path, None, "no such path", 404, method="GET")
    refuse(s, CHAT, None, "POST", 405, method="GET")
    refuse(s, MESSAGES, None, "POST", 405, method="GET")
    refuse(s, "/health", {}, "GET", 405)
    status, headers, data = s.ask("DELETE", CHAT)
    expect(status == 405 and headers["Allow"] == "POST", f"DELETE: {status} {headers['Allow']}")
    status, _, data = s.ask("HEAD", "/health")
    expect(status == 200 and data == b"", f"HEAD /health: {status} {data}")
    status, answer = s.get("/v1/models")
    expect(answer["data"][0]["id"] == "demo", f"/v1/models: {answer}")
    expect(s.get("/v1/models/demo")[1] == answer["data"][0], "/v1/models/demo differs")
    refuse(s, "/v1/models/other", None, "no model", 404, method="GET")
    refuse(s, "/v1/embeddings", {"input": "x"}, "embeddings", 501)


def tokens(s):
    text = "The old sailor said: <|im_start|> \u00e9\u4e2d\0."
    status, answer = s.post("/tokenize", {"content": text})
    expect(status == 200 and answer["count"] == len(answer["tokens"]), f"tokenize: {answer}")
    status, back = s.post("/detokenize", {"tokens": answer["tokens"]})
    expect(back == {"content": text}, f"detokenize: {back}")
    for body in ({}, {"content": 5}, [], 5):
        refuse(s, "/tokenize", body, "body" if body == 5 else "content")
    for body in ({}, {"tokens": 5}, {"tokens": ["a"]}, {"tokens": [-1]}, {"tokens": [2**40]}):
        refuse(s, "/detokenize", body, "tokens")
    # A NUL belongs to a prompt as much as any other character.
    usage = [s.post(COMPLETE, {"prompt": p, "max_tokens": 1})[1]["usage"]["prompt_tokens"]
             for p in ("ab\0cd ef gh", "ab")]
    expect(usage[0] > usage[1], f"a prompt ends at its NUL: {usage}")


def together(s):
    """Bodies that are large together: some are taken, the others told to come back."""
    part, rest = b" " * (20 << 20), b" " * (10 << 20)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" \
           f"Content-Length: {len(part) + len(rest)}\r\n\r\n"
    held = [s.raw(head.encode()) for _ in range(6)]
    for c in held:
        c.sendall(part)
    answers = []
    for c in held[::-1]:
        c.sendall(rest)
        answers.append(c.recv(64).split()[1])
        c.close()
    expect(b"503" in answers and b"400" in answers, f"180 MiB of bodies at once: {answers}")
    expect(s.ask("POST", CHAT, part)[0] == 400, "20 MiB afterwards")


def large(s):
    status, _, data = s.ask("POST", CHAT, b" " * (33 << 20))
    expect(status == 413, f"33 MiB: {status} {data!r}")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    with s.raw(head + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n") as c:
        expect(b" 413 " in c.recv(64), "a body that is announced as too large is asked for")
    with s.raw(head + b"Transfer-Encoding: chunked\r\n\r\n") as c:
        chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        for _ in range(34):
            c.sendall(chunk)
        c.sendall(b"0\r\n\r\n")
        expect(b" 413 " in c.recv(64), "34 MiB in chunks")
    together(s)
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "
    with s.raw(head + b"x" * 200000 + b"\r\n\r\n") as c:
        expect(b" 431 " in c.recv(64), "200 kB of headers")
    for garbage in (b"\0" * 100, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n",
                    b"\xff" * 5000 + b"\r\n\r\n"):
        with s.raw(garbage) as c:
            c.settimeout(PATIENCE)
            c.shutdown(socket.SHUT_WR)
            c.recv(4096)
    long = {"prompt": "word " * 5000, "max_tokens": 4}
    for stream in (False, True):
        refuse(s, COMPLETE, long | {"stream": stream}, "context length is 1024")
    # What clients look for, to shorten a conversation and try again.
    long = {"messages": [{"role": "user", "content": "word " * 5000}], "max_tokens": 4}
    status, answer = s.post(CHAT, long)
    expect(status == 400 and answer["error"]["code"] == "context_length_exceeded",
           f"too long: {answer}")
    refuse(s, CHAT, long, "this model's maximum context length is 1024 tokens")
    refuse(s, MESSAGES, long, "prompt is too long: 5013 tokens > 1023 maximum")
    expect(s.post(CHAT, {"messages": 5})[1]["error"]["code"] is None, "another error has its code")
    status, answer = s.post(COMPLETE, {"prompt": "x " * 400, "max_tokens": 4000, "temperature": 0})
    total = answer["usage"]["total_tokens"]
    expect(total <= 1025 and answer["choices"][0]["finish_reason"] in ("length", "stop"),
           f"an answer beyond the context: {answer['usage']}")
    expect(s.get("/health") == (200, {"status": "ok"}), "the server is well afterwards")


PLACE = {"type": "object", "properties": {"place": {"type": "string"}, "n": {"type": "integer"}},
         "required": ["place", "n"]}


def whole_json(s):
    """JSON is whole within its limit, and says whether that is the limit's doing."""
    for limit in (2, 3, 5, 12, 25):
        common = {"messages": HELLO, "max_tokens": limit, "temperature": 1, "seed": limit}
        status, answer = s.post(CHAT, common | {"response_format": {"type": "json_object"}})
        choice, used = answer["choices"][0], answer["usage"]["completion_tokens"]
        text = choice["message"]["content"]
        expect(isinstance(json.loads(text), dict) and used <= limit, f"{limit}: {text}")
        expect(choice["finish_reason"] == "length" or used < 25, f"{limit}: {choice}")
        _, _, data = s.ask("POST", CHAT, common | {"response_format": {"type": "json_object"},
                                                   "stream": True})
        events = [json.loads(line[6:]) for line in data.decode().splitlines()
                  if line.startswith("data: {")]
        deltas = [c for e in events for c in e["choices"]]
        expect("".join(c["delta"].get("content") or "" for c in deltas) == text and
               deltas[-1]["finish_reason"] == choice["finish_reason"], f"{limit}: streamed: {data}")
        if limit < 12:
            continue
        form = {"output_config": {"format": {"type": "json_schema", "schema": PLACE}}}
        status, answer = s.post(MESSAGES, common | form)
        value = json.loads(answer["content"][0]["text"])
        expect(set(value) == {"place", "n"} and answer["usage"]["output_tokens"] <= limit and
               answer["stop_reason"] in ("max_tokens", "end_turn"), f"{limit}: {answer}")
    # The strings of this one want more than there is: the client hears of it.
    long = {"type": "object", "properties": {"t": {"type": "string", "minLength": 30}},
            "required": ["t"]}
    for limit, reason in ((40, "length"), (400, "stop")):
        form = {"type": "json_schema", "json_schema": {"name": "t", "schema": long | (
            {"properties": {"t": {"const": "x"}}} if reason == "stop" else {})}}
        status, answer = s.post(CHAT, {"messages": HELLO, "max_tokens": limit, "seed": 1,
                                       "temperature": 2, "response_format": form})
        choice = answer["choices"][0]
        expect(set(json.loads(choice["message"]["content"])) == {"t"} and
               choice["finish_reason"] == reason, f"{limit}: {choice}")
    # What the context has left is a limit, too.
    status, answer = s.post(CHAT, {
        "messages": [{"role": "user", "content": "x " * 990}], "temperature": 1, "seed": 1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": {
            "type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 3}}}})
    choice = answer["choices"][0]
    expect(len(json.loads(choice["message"]["content"])) >= 3 and
           answer["usage"]["total_tokens"] <= 1025, f"to the context's end: {answer}")


def sites(s):
    def status(headers, method="GET", path="/v1/models"):
        return s.ask(method, path, headers=headers)[0]
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "a" * 300):
        expect(status({"Host": host}) == 403, f"Host: {host} is answered")
    for host in ("localhost", "LOCALHOST:99", "127.0.0.1:5", "[::1]:5", "127.9.9.9"):
        expect(status({"Host": host}) == 200, f"Host: {host} is refused")
    own = f"127.0.0.1:{s.port}"
    for origin in ("http://evil.example", "null", "http://localhost.evil", "x", ""):
        expect(status({"Host": own, "Origin": origin}) == 403, f"Origin: {origin} is answered")
    expect(status({"Host": own, "Origin": f"http://{own}"}) == 200, "the own page is refused")
    # Who is refused by mistake is told what would help.
    refuse(s, "/v1/models", None, "host.docker.internal:5: not a name of this machine's own; with "
           "--api-key", 403, {"Host": "host.docker.internal:5"}, "GET")
    refuse(s, "/v1/models", None, "pages of app://notes may not use this server; --cors "
           "app://notes lets", 403, {"Host": own, "Origin": "app://notes"}, "GET")


def with_key(program):
    with Server(program, ["--api-key", "sesame", "--cors", "https://page.example"]) as s:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer sesam"},
                        {"Authorization": "Bearer sesamee"}, {"Authorization": "Bearer "},
                        {"Authorization": "sesame"}, {"x-api-key": ""}, {"x-api-key": "Sesame"}):
            refuse(s, CHAT, {"messages": HELLO}, "API key", 401, headers)
            refuse(s, MESSAGES, {"messages": HELLO}, "API key", 401, headers)
        for headers in ({"Authorization": "Bearer sesame"}, {"authorization": "bearer sesame"},
                        {"x-api-key": "sesame"}):
            expect(s.get("/v1/models", headers)[0] == 200, f"{headers} is refused")
        expect(s.get("/health")[0] == 200, "/health needs no key")
        status, headers, _ = s.ask("OPTIONS", CHAT, headers={
            "Origin": "https://page.example", "Access-Control-Request-Headers": "x-stainless-os"})
        expect(status == 204 and headers["Access-Control-Allow-Origin"] == "https://page.example"
               and headers["Access-Control-Allow-Headers"] == "x-stainless-os", f"CORS: {status}")
        status, _, _ = s.ask("OPTIONS", CHAT, headers={"Origin": "https://other.example"})
        expect(status == 403, f"CORS of another site: {status}")


def starting(program):
    for options, words in ((["--host", "0.0.0.0"], "key is needed"), (["--host", "::"], "key"),
                           (["--host", "example.com"], "no numeric address"),
                           (["--api-key", ""], "API key is empty"),
                           (["--name", b"\xff"], "--name"),
                           (["--name", ""], "name is empty"),
                           (["--port", "65536"], "--port takes a number from 0 to 65535"),
                           (["--parallel", "0"], "--parallel takes a number from 1 to 1024"),
                           (["--queue", "0"], "--queue takes a number from 1 to 100000"),
                           (["--max-tokens", "0"], "--max-tokens takes a whole number above 0"),
                           (["--host", "192.0.2.1", "--api-key", "x"], "cannot listen")):
        r = subprocess.run([program, "serve", DEMO, "--port", "0", *options], text=True,
                           errors="replace", stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
        said = [line for line in r.stderr.splitlines() if line.startswith("sluice")]
        expect(r.returncode in (1, 2) and len(said) == 1 and words in said[0],
               f"{options}: {r.returncode} {r.stderr}")
    r = subprocess.run([program, "serve", "absent"], text=True, stderr=subprocess.PIPE,
                       timeout=PATIENCE, check=False)
    expect(r.returncode == 1 and r.stderr == "sluice: absent: No such file or directory\n",
           f"a model that is not there: {r.stderr}")
    with Server(program) as s:
        r = subprocess.run([program, "serve", DEMO, "--port", str(s.port)], text=True,
                           stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
        expect(r.returncode == 1 and "cannot listen" in r.stderr, f"a port in use: {r.stderr}")


def names(program):
    """A model that was pulled has the name that it was pulled by, and "." is some folder."""
    with tempfile.TemporaryDirectory(prefix="sluice-hub.") as hub:
        commit = "0123456789abcdef0123456789abcdef01234567"
        folder = os.path.join(hub, "models--Some-Org--Model-4B")
        snapshot = os.path.join(folder, "snapshots", commit)
        os.makedirs(os.path.dirname(snapshot))
        os.makedirs(os.path.join(folder, "refs"))
        os.symlink(DEMO, snapshot)
        with open(os.path.join(folder, "refs", "main"), "w", encoding="ascii") as f:
            f.write(commit)
        for model, name, folder in (("Some-Org/Model-4B", "Some-Org/Model-4B", None),
                                    (snapshot + "/", "Some-Org/Model-4B", None),
                                    (DEMO + "//", "demo", None), (".", "demo", DEMO)):
            with Server(program, model=model, folder=folder, env={"HF_HUB_CACHE": hub}) as s:
                found = s.get("/v1/models")[1]["data"][0]["id"]
                expect(found == name, f"{model} is called {found}")
                expect(s.get("/v1/models/" + name)[0] == 200, f"/v1/models/{name}")


def kept_prompts(program):
    """Nobody asked for the folder of prompts in the cache: a server goes on without it."""
    with Server(program) as first:
        with Server(program, env={"XDG_CACHE_HOME": first.cache.name}) as second:
            said = [line for line in second.said if "in memory alone" in line]
            expect(len(said) == 1 and "another cache" in said[0], f"the folder: {second.said}")
            status, answer = second.post(CHAT, {"messages": HELLO, "max_tokens": 1})
            expect(status == 200, f"the second server: {answer}")
        folder = first.cache.name + "/sluice/prompts"
        r = subprocess.run([program, "serve", DEMO, "--port", "0", "--prefix-folder", folder],
                           text=True, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
        expect(r.returncode == 1 and "another cache" in r.stderr, f"named: {r.stderr}")


# ---- the queue -----------------------------------------------------------------------------------

def until(truth, what):
    """Waits, long enough for any machine, for what must come to be."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if truth():
            return expect(True, what)
        time.sleep(0.02)
    return expect(False, what)


def send(s, path, body):
    data = json.dumps(body).encode()
    return s.raw(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
                 .encode() + data)


# The demo goes on with this for longer than any test waits.
ENDLESS = {"prompt": "Once upon a time", "max_tokens": 100000, "temperature": 0, "stream": True}


def queue(program):
    """One place to run, two to wait: full is 429, who leaves while waiting makes room."""
    with Server(program, ["--parallel", "1", "--queue", "2", "--ctx", "8192"]) as s:
        first = send(s, COMPLETE, ENDLESS)
        first.recv(100)
        waiting = [send(s, COMPLETE, ENDLESS) for _ in range(2)]
        until(lambda: s.metric("requests_waiting") == 2, "two wait")
        for path in (COMPLETE, MESSAGES):
            status, headers, data = s.ask("POST", path, ENDLESS | {"messages": HELLO})
            expect(status == 429 and int(headers["Retry-After"]) > 0, f"full: {status} {data!r}")
            error_of(path, data, "full")
        until(lambda: b": still here" in waiting[0].recv(1000), "a sign of life while waiting")
        waiting[0].close()
        until(lambda: s.metric("requests_waiting") == 1, "who has left does not wait")
        first.close()
        until(lambda: b"data: {" in waiting[1].recv(1000), "the next one is answered")
        waiting[1].close()
        until(lambda: s.metric("requests_active") == 0, "nothing is left")
        expect(s.metric("requests_cancelled_total") == 3, "three were cancelled")


def leaving(program):
    """A client that leaves in the middle of a long prompt: it is not read to its end."""
    options = ["--parallel", "1", "--ctx", "8192", "--chunk", "64", "--threads", "1"]
    with Server(program, options) as s:
        for stream in (True, False):
            before = s.metric("requests_cancelled_total")
            c = send(s, COMPLETE, {"prompt": "word " * 8000, "max_tokens": 4, "stream": stream})
            until(lambda: s.metric("requests_active") == 1, "a long prompt is being read")
            c.close()
            until(lambda: s.metric("requests_active") == 0, "its client left")
            expect(s.metric("requests_cancelled_total") == before + 1, "it was cancelled")
        expect(s.metric("prompt_tokens_total") < 2 * 8000, "it was read to its end")


def main():
    program = sys.argv[1]
    with Server(program, ["--ctx", "1024", "--parallel", "2"]) as s:
        for part in (wrong_options, wrong_messages, odd_arguments, wrong_anthropic,
                     anthropic_prompts, paths, tokens, large, whole_json, sites):
            part(s)
    for part in (with_key, starting, names, kept_prompts, queue, leaving):
        part(program)
    finish()


if __name__ == "__main__":
    main()
