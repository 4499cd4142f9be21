"""serve_load.py PROGRAM: many clients at once. Some read to the end, and get what the same request
gives alone, to the byte; some leave in the middle, some read slowly, some send garbage. Then the
server is stopped in the middle of streams. SLUICE_SERVE_SECONDS (4) says for how long."""

import json
import os
import random
import signal
import socket
import sys
import threading
import time

from serve_server import PATIENCE, Server, expect, finish

CLIENTS = 8
SECONDS = float(os.environ.get("SLUICE_SERVE_SECONDS", "4"))
PROMPTS = ["Once upon a time", "The old sailor", "It was a dark night, and " * 12,
           "A long letter came from the north. " * 30]
HELLO = [{"role": "user", "content": "Please mail tina@letter.com with the subject \"winter\"."}]
TOOLS = [{"type": "function", "function": {
    "name": "send_email", "description": "Send an email", "parameters": {
        "type": "object", "properties": {"to": {"type": "string"}, "subject": {"type": "string"}},
        "required": ["to", "subject"]}}}]


def requests():
    """(path, body): greedy and sampled from seeds, of all APIs."""
    for i, prompt in enumerate(PROMPTS):
        yield "/v1/completions", {"prompt": prompt, "max_tokens": 40, "temperature": 0}
        yield "/v1/completions", {"prompt": prompt, "max_tokens": 30, "temperature": 0.9, "seed": i}
        message = [{"role": "user", "content": prompt}]
        yield "/v1/chat/completions", {"messages": message, "max_tokens": 30, "temperature": 1,
                                       "seed": 7 * i}
        yield "/v1/messages", {"messages": message, "max_tokens": 25, "temperature": 0}
        yield "/v1/chat/completions", {"messages": message, "max_tokens": 12 + i, "temperature": 1,
                                       "seed": i, "response_format": {"type": "json_object"}}
    yield "/v1/chat/completions", {"messages": HELLO, "tools": TOOLS, "temperature": 0}


def open_stream(server, path, body):
    data = json.dumps(body | {"stream": True}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return server.raw(head.encode() + data)


def text_of(server, path, body):
    """What an answer says, out of its stream; None where it did not end as it should."""
    c = server.connect()
    try:
        c.request("POST", path, json.dumps(body | {"stream": True}))
        said, ended = [], False
        for line in c.getresponse():
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]\n":
                ended = True
                continue
            event = json.loads(line[6:])
            if "error" in event:
                return None
            ended = ended or event.get("type") == "message_stop"
            for choice in event.get("choices", []):
                said.append(choice.get("text") or json.dumps(
                    {k: v for k, v in choice.get("delta", {}).items() if k != "tool_calls"}))
                for call in choice.get("delta", {}).get("tool_calls", []):
                    said.append(json.dumps(call["function"]))
                said.append(str(choice["finish_reason"]))
            if "delta" in event:
                said.append(event["delta"].get("text", ""))
        return "\n".join(said) if ended else None
    finally:
        c.close()


def client(server, number, until, alone, results):
    rng = random.Random(number)
    while time.monotonic() < until:
        which = rng.randrange(len(alone))
        (path, body), expected = alone[which]
        what = rng.random()
        try:
            if what < 0.5:
                results["same"] += 1
                if text_of(server, path, body) != expected:
                    results["different"].append(f"{path} {str(body)[:80]}")
            elif what < 0.75: # leaves, at once or somewhere in the middle
                with open_stream(server, path, body) as c:
                    for _ in range(rng.randrange(4)):
                        c.recv(rng.randrange(1, 2000))
                results["left"] += 1
            elif what < 0.9: # reads slowly
                with open_stream(server, path, body) as c:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                    for _ in range(5):
                        time.sleep(0.02)
                        c.recv(16)
                results["slow"] += 1
            else:
                garbage = rng.randbytes(rng.randrange(1, 400))
                status, _, _ = server.ask("POST", path, garbage)
                expect(status == 400, f"garbage gets {status}")
                results["garbage"] += 1
        except (ConnectionError, OSError) as e:
            results["different"].append(f"{path}: {e}")


def storm(program, options):
    results = {"same": 0, "left": 0, "slow": 0, "garbage": 0, "different": []}
    with Server(program, ["--ctx", "2048", "--queue", "64", *options]) as s:
        alone = []
        for path, body in requests():
            text = text_of(s, path, body)
            expect(text, f"{path} {str(body)[:80]}: no answer")
            alone.append(((path, body), text))
        expect("send_email" in alone[-1][1], "no call is made")
        until = time.monotonic() + SECONDS
        threads = [threading.Thread(target=client, args=(s, i, until, alone, results))
                   for i in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        while s.metric("requests_active") + s.metric("requests_waiting") > 0:
            time.sleep(0.02)
        print(f"{options}: {results['same']} answers compared, {results['left']} clients left, "
              f"{results['slow']} read slowly, {results['garbage']} sent garbage")
    expect(not results["different"], f"differ: {results['different'][:5]}")
    expect(results["same"] > 0 and results["left"] > 0, f"nothing was tried: {results}")


def stop(program, how):
    """In the middle of streams, of waiting and of a long prompt."""
    with Server(program, ["--ctx", "8192", "--parallel", "2", "--queue", "8"]) as s:
        body = {"prompt": "Once", "max_tokens": 100000, "temperature": 0}
        open_now = [open_stream(s, "/v1/completions", body) for _ in range(2)]
        for c in open_now:
            c.recv(200)
        open_now.append(open_stream(s, "/v1/completions", {"prompt": "word " * 7000}))
        open_now.append(open_stream(s, "/v1/messages", {"messages": HELLO, "max_tokens": 9}))
        while s.metric("requests_waiting") < 2:
            time.sleep(0.02)
        code = s.stop(how)
        expect(code == 0, f"stopped by {how}: {code}: {''.join(s.said)[-3000:]}")
        for c in open_now:
            c.settimeout(PATIENCE)
            data = b""
            while more := c.recv(65536):
                data += more
            expect(b"the server is stopping" in data, f"a stream does not say so: {data[-200:]}")
            c.close()


def main():
    program = sys.argv[1]
    storm(program, ["--parallel", "4"])
    storm(program, ["--parallel", "8", "--chunk", "64", "--threads", "2"])
    stop(program, signal.SIGTERM)
    stop(program, signal.SIGINT)
    finish()


if __name__ == "__main__":
    main()
