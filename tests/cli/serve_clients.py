"""serve_clients.py PROGRAM: the server as OpenAI's and Anthropic's own clients see it."""

import json
import os
import sys
import time

import anthropic
import openai

from serve_server import Server, expect, finish

ROOM = {"type": "object", "required": ["room", "brightness"], "properties": {
    "room": {"type": "string", "description": "Room"},
    "brightness": {"type": "integer", "description": "Percent"}}}
TOOL = {"type": "function", "function": {"name": "turn_on_light", "description": "Turn on a light",
                                         "parameters": ROOM}}
ASK = {"role": "user", "content": "Set the light in the kitchen to 40 percent."}
HELLO = [{"role": "user", "content": "Tell me a story."}]


def refused(call, kind, words):
    try:
        call()
        expect(False, f"not refused: {words}")
    except kind as e:
        expect(words in str(e), f"'{e}' does not say '{words}'")
        return e
    return None


# ---- OpenAI --------------------------------------------------------------------------------------

def chat(client):
    a = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=20, temperature=0)
    choice = a.choices[0]
    expect(a.object == "chat.completion" and a.model == "demo", f"{a}")
    expect(choice.message.role == "assistant" and choice.message.content, f"{choice}")
    expect(choice.finish_reason in ("length", "stop"), f"{choice}")
    expect(a.usage.total_tokens == a.usage.prompt_tokens + a.usage.completion_tokens and
           0 < a.usage.completion_tokens <= 20, f"{a.usage}")
    pieces, reason, usage = [], None, None
    with client.chat.completions.create(model="demo", messages=HELLO, max_tokens=20, temperature=0,
                                        stream=True, stream_options={"include_usage": True}) as s:
        for chunk in s:
            expect(chunk.object == "chat.completion.chunk", f"{chunk}")
            if not chunk.choices:
                usage = chunk.usage
                continue
            expect(chunk.usage is None, f"{chunk}")
            pieces.append(chunk.choices[0].delta.content or "")
            reason = chunk.choices[0].finish_reason or reason
    expect("".join(pieces) == choice.message.content, "a stream says something else")
    expect(reason == choice.finish_reason and usage == a.usage, f"{reason} {usage}")
    parts = [{"role": "user", "content": [{"type": "text", "text": "Tell me "},
                                          {"type": "text", "text": "a story."}]}]
    b = client.chat.completions.create(model="demo", messages=parts, max_tokens=20, temperature=0)
    expect(b.choices[0].message.content == choice.message.content, "parts are not their text")
    told = [client.chat.completions.create(model="demo", messages=HELLO, max_tokens=12,
                                           temperature=2, seed=seed).choices[0].message.content
            for seed in (5, 5, -6)]
    expect(told[0] == told[1] != told[2], f"seeds: {told}")


def stops(client):
    """Stop texts, found across the borders of tokens and pieces, are not in the answer."""
    def ask(**more):
        return client.chat.completions.create(model="demo", messages=HELLO, temperature=0,
                                              max_tokens=24, **more)
    whole = ask().choices[0].message.content
    for begin in range(3, len(whole) - 8, 5):
        stop = whole[begin:begin + 6]
        a = ask(stop=[stop, "never to be seen"]).choices[0]
        expect(a.message.content == whole[:whole.index(stop)] and a.finish_reason == "stop",
               f"stop {stop!r}: {a}")
        pieces = [c.choices[0].delta.content or "" for c in ask(stop=stop, stream=True)]
        expect("".join(pieces) == a.message.content, f"stop {stop!r} in a stream: {pieces}")


def tools(client):
    messages = [ASK]
    a = client.chat.completions.create(model="demo", messages=messages, tools=[TOOL], temperature=0,
                                       tool_choice="auto")
    choice = a.choices[0]
    expect(choice.finish_reason == "tool_calls" and choice.message.content is None, f"{choice}")
    call = choice.message.tool_calls[0]
    right = {"room": "kitchen", "brightness": 40}
    expect(call.function.name == "turn_on_light", f"{call}")
    expect(json.loads(call.function.arguments) == right, f"{call}")
    with client.chat.completions.stream(model="demo", messages=messages, tools=[TOOL],
                                        temperature=0) as s:
        streamed = s.get_final_completion().choices[0]
    expect(streamed.finish_reason == "tool_calls" and
           json.loads(streamed.message.tool_calls[0].function.arguments) == right, f"{streamed}")
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    b = client.chat.completions.create(model="demo", messages=messages, tools=[TOOL], temperature=0,
                                       max_tokens=30)
    expect(b.choices[0].message.role == "assistant" and
           b.usage.prompt_tokens > a.usage.prompt_tokens, f"{b}")
    c = client.chat.completions.create(model="demo", messages=[ASK], tools=[TOOL], temperature=0,
                                       tool_choice="none", max_tokens=30)
    expect(not c.choices[0].message.tool_calls, f"tool_choice none: {c}")


def logprobs(client):
    a = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=8, temperature=0,
                                       logprobs=True, top_logprobs=3)
    told = a.choices[0].logprobs.content
    expect("".join(t.token for t in told) == a.choices[0].message.content, f"{told}")
    for t in told:
        expect(len(t.top_logprobs) == 3 and t.top_logprobs[0].token == t.token and
               t.logprob <= 0 and bytes(t.bytes).decode() == t.token, f"{t}")
    streamed = []
    for chunk in client.chat.completions.create(model="demo", messages=HELLO, max_tokens=8,
                                                temperature=0, logprobs=True, top_logprobs=3,
                                                stream=True):
        streamed += chunk.choices[0].logprobs.content
    expect(streamed == told, "a stream's chances differ")
    b = client.completions.create(model="demo", prompt="Once upon", max_tokens=5, temperature=0,
                                  logprobs=2)
    old = b.choices[0].logprobs
    text = b.choices[0].text
    expect("".join(old.tokens) == text and len(old.top_logprobs[0]) == 2, f"{old}")
    expect(all(text[at:at + len(t)] == t for at, t in zip(old.text_offset, old.tokens)), f"{old}")


def completions(server, client):
    a = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=16,
                                  temperature=0)
    expect(a.object == "text_completion" and a.choices[0].finish_reason == "length" and
           a.usage.completion_tokens == 16, f"{a}")
    _, answer = server.post("/tokenize", {"content": "Once upon a time"})
    b = client.completions.create(model="demo", prompt=answer["tokens"], max_tokens=16,
                                  temperature=0)
    expect(b.choices[0].text == a.choices[0].text and b.usage == a.usage, f"ids: {b}")
    pieces, usage = [], None
    for chunk in client.completions.create(model="demo", prompt=["Once upon a time"], max_tokens=16,
                                           temperature=0, stream=True,
                                           stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        pieces += [c.text for c in chunk.choices]
    expect("".join(pieces) == a.choices[0].text and usage == a.usage, f"{pieces} {usage}")


def prompt_of(message):
    """Tokens of an Anthropic message's prompt, read now or kept from before."""
    return message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


def schema(client):
    """Answers held to a form: by a schema, to any object, to a call of a tool."""
    form = {"type": "json_schema", "json_schema": {"name": "light", "schema": ROOM, "strict": True}}
    a = client.chat.completions.create(model="demo", messages=[ASK], temperature=1, seed=3,
                                       response_format=form, max_tokens=400)
    light = json.loads(a.choices[0].message.content)
    expect(set(light) == {"room", "brightness"} and isinstance(light["room"], str) and
           isinstance(light["brightness"], int), f"{light}")
    a = client.chat.completions.create(model="demo", messages=HELLO, temperature=0, max_tokens=400,
                                       response_format={"type": "json_object"})
    expect(a.choices[0].finish_reason == "length" or
           isinstance(json.loads(a.choices[0].message.content), dict), f"{a}")
    for seed in range(6):  # with tools: calls, or an answer of that form
        a = client.chat.completions.create(model="demo", messages=[ASK], temperature=1, seed=seed,
                                           response_format=form, tools=[TOOL], max_tokens=400)
        if a.choices[0].finish_reason == "length":
            continue
        said, calls = a.choices[0].message.content, a.choices[0].message.tool_calls
        expect(bool(said) != bool(calls), f"{a}")
        expect(set(json.loads(said)) == {"room", "brightness"} if said else
               isinstance(json.loads(calls[0].function.arguments), dict), f"{a}")
    refused(lambda: client.chat.completions.create(
        model="demo", messages=HELLO, response_format={"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "string", "pattern": "a+"}}}),
        openai.BadRequestError, "pattern")
    name = TOOL["function"]["name"]
    for choice in ("required", {"type": "function", "function": {"name": name}}):
        a = client.chat.completions.create(model="demo", messages=HELLO, tools=[TOOL], seed=5,
                                           temperature=1, tool_choice=choice, max_tokens=600)
        if a.choices[0].finish_reason == "length":
            continue
        calls = a.choices[0].message.tool_calls
        expect(calls and isinstance(json.loads(calls[0].function.arguments), dict), f"{a}")
        expect(isinstance(choice, str) or calls[0].function.name == name,
               f"{a}")


def errors(server, client):
    e = refused(lambda: client.chat.completions.create(model="demo", messages=[]),
                openai.BadRequestError, "messages")
    expect(e.body["type"] == "invalid_request_error", f"{e.body}")
    refused(lambda: client.chat.completions.create(model="demo", messages=HELLO, n=2),
            openai.BadRequestError, "n: only 1")
    refused(lambda: client.models.retrieve("other"), openai.NotFoundError, "no model")
    refused(lambda: client.with_options(api_key="wrong").models.list(), openai.AuthenticationError,
            "API key")
    expect([m.id for m in client.models.list()] == ["demo"], "the list of models")
    expect(client.models.retrieve("demo").owned_by == "sluice", "the model")
    refused(lambda: client.embeddings.create(model="demo", input="x"), openai.InternalServerError,
            "embeddings")


def cancelling(server, client):
    before = server.ask("GET", "/metrics")[2]
    with client.chat.completions.create(model="demo", messages=HELLO, stream=True,
                                        max_tokens=7000) as s:
        for i, _ in enumerate(s):
            if i == 2:
                break
    while True: # until it has ended, well or not
        now = server.ask("GET", "/metrics")[2]
        if b"sluice_requests_active 0\n" in now:
            break
        time.sleep(0.02)
    expect(before != now, "nothing was counted")


# ---- Anthropic -----------------------------------------------------------------------------------

def messages(client):
    args = {"model": "demo", "max_tokens": 20, "messages": HELLO, "extra_body": {"temperature": 0},
            "system": [{"type": "text", "text": "You are a sailor."}]}
    a = client.messages.create(**args)
    expect(a.type == "message" and a.role == "assistant" and a.content[0].type == "text", f"{a}")
    expect(a.stop_reason in ("end_turn", "max_tokens") and a.usage.output_tokens > 0, f"{a}")
    kinds = []
    with client.messages.stream(**args) as s:
        for event in s:
            kinds.append(event.type)
            if event.type == "message_start":
                expect(prompt_of(event.message) == prompt_of(a), f"{event}")
        final = s.get_final_message()
    order = [k for i, k in enumerate(kinds) if k != "text" and k not in kinds[:i]]
    expect(order == ["message_start", "content_block_start", "content_block_delta",
                     "content_block_stop", "message_delta", "message_stop"], f"{order}")
    expect(final.content[0].text == a.content[0].text and final.usage.output_tokens ==
           a.usage.output_tokens and final.stop_reason == a.stop_reason, f"{final}")
    text = a.content[0].text
    b = client.messages.create(**args, stop_sequences=[text[8:14]])
    expect(b.stop_reason == "stop_sequence" and b.stop_sequence == text[8:14] and
           b.content[0].text == text[:text.index(text[8:14])], f"{b}")
    count = client.messages.count_tokens(model="demo", messages=HELLO, system=args["system"])
    expect(count.input_tokens == prompt_of(a), f"{count}")
    expect([m.id for m in client.models.list()] == ["demo"], "the list of models")


def uses(client):
    tool = {"name": "turn_on_light", "description": "Turn on a light", "input_schema": ROOM}
    args = {"model": "demo", "max_tokens": 200, "tools": [tool], "extra_body": {"temperature": 0}}
    a = client.messages.create(messages=[ASK], **args)
    use = a.content[-1]
    expect(a.stop_reason == "tool_use" and use.type == "tool_use" and
           use.name == "turn_on_light" and use.id.startswith("toolu_") and
           use.input == {"room": "kitchen", "brightness": 40}, f"{a}")
    with client.messages.stream(messages=[ASK], **args) as s:
        final = s.get_final_message()
    expect(final.content[-1].input == use.input and final.stop_reason == "tool_use", f"{final}")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text",
                                                                         "text": "done"}]}
    b = client.messages.create(messages=[ASK, {"role": "assistant", "content": a.content},
                                         {"role": "user", "content": [result]}], **args)
    expect(prompt_of(b) > prompt_of(a) and b.content, f"{b}")


def anthropic_errors(client):
    e = refused(lambda: client.messages.create(model="demo", max_tokens=5, messages=[]),
                anthropic.BadRequestError, "messages")
    expect(e.body["type"] == "error" and e.body["error"]["type"] == "invalid_request_error",
           f"{e.body}")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    refused(lambda: client.messages.create(model="demo", max_tokens=5, messages=[
        {"role": "user", "content": [image]}]), anthropic.BadRequestError, "image")
    refused(lambda: client.with_options(api_key="wrong").models.list(),
            anthropic.AuthenticationError, "API key")


def main():
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    with Server(sys.argv[1], ["--api-key", "sesame"]) as s:
        base = f"http://{s.host}:{s.port}"
        client = openai.OpenAI(base_url=base + "/v1", api_key="sesame", max_retries=0)
        s.headers = {"x-api-key": "sesame"}
        for part in (chat, stops, tools, logprobs, schema):
            part(client)
        completions(s, client)
        errors(s, client)
        cancelling(s, client)
        other = anthropic.Anthropic(base_url=base, api_key="sesame", max_retries=0)
        for part in (messages, uses, anthropic_errors):
            part(other)
    finish()


if __name__ == "__main__":
    main()
