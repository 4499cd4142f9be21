#!/usr/bin/env python3
"""Uses the page of "sluice serve" as a person would, in a headless Chromium.

    page_browser.py PROGRAM CHROMIUM [FOLDER]     FOLDER: where to leave pictures of it

The browser is driven through its DevTools protocol: JSON in the frames of a WebSocket.
"""
import base64
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

PATIENCE = 120  # seconds, for a machine that is busy


class Socket:
    """The client's side of a WebSocket, as far as DevTools needs it."""

    def __init__(self, url):
        host, port, path = re.match(r"ws://([^:/]+):(\d+)(/.*)", url).groups()
        self.sock = socket.create_connection((host, int(port)), PATIENCE)
        self.file = self.sock.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall((f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                           f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                           "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        while self.file.readline().strip():
            pass

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        n = len(data)
        head = bytes([0x81]) + (bytes([0x80 | n]) if n < 126 else
                                struct.pack(">BH", 0x80 | 126, n) if n < 65536 else
                                struct.pack(">BQ", 0x80 | 127, n))
        self.sock.sendall(head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data)))

    def receive(self):
        whole = b""
        while True:
            first, n = self.file.read(2)
            n &= 127
            if n == 126:
                n, = struct.unpack(">H", self.file.read(2))
            elif n == 127:
                n, = struct.unpack(">Q", self.file.read(8))
            data = self.file.read(n)
            if first & 15 in (0, 1, 2):
                whole += data
            if first & 0x80 and first & 15 in (0, 1, 2):
                return whole.decode()


class Page:
    """A tab."""

    def __init__(self, debugger, url):
        request = urllib.request.Request(f"http://127.0.0.1:{debugger}/json/new?about:blank",
                                         method="PUT")
        target = json.load(urllib.request.urlopen(request, timeout=PATIENCE))
        self.socket, self.count, self.complaints = Socket(target["webSocketDebuggerUrl"]), 0, []
        for domain in ("Page", "Runtime", "Log"):
            self.do(domain + ".enable")
        self.do("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && typeof watch === 'function'")

    def do(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(message["params"]["exceptionDetails"]))
            if message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] == "error":
                    self.complaints.append(entry["text"] + " " + entry.get("url", ""))
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def value(self, expression):
        result = self.do("Runtime.evaluate", expression=expression, returnByValue=True,
                         awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, expression):
        end = time.monotonic() + PATIENCE
        while not self.value(f"!!({expression})"):
            if time.monotonic() > end:
                raise RuntimeError(f"never came true: {expression}")
            time.sleep(0.05)

    def type(self, text):
        self.do("Input.insertText", text=text)

    def press(self, key, code, modifiers=0):
        text = {"Enter": "\r"}.get(key, "")
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.do("Input.dispatchKeyEvent", type="keyUp", **common)

    def dress(self, width, height, scheme="light", scale=1):
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height,
                deviceScaleFactor=scale, mobile=width < 500)
        self.do("Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, name):
        if not FOLDER:
            return
        time.sleep(0.7)
        data = self.do("Page.captureScreenshot", format="png")["data"]
        with open(os.path.join(FOLDER, name + ".png"), "wb") as file:
            file.write(base64.b64decode(data))


class Server:
    def __init__(self, program, *options):
        self.process = subprocess.Popen(
            [program, "serve", "--port", "0", "--parallel", "2", *options],
            stderr=subprocess.PIPE, text=True)
        self.port = None
        for line in self.process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.port = int(found.group(1))
                break
        if not self.port:
            raise RuntimeError("the server did not start")
        self.url = f"http://127.0.0.1:{self.port}/"

    def stop(self):
        self.process.terminate()
        self.process.stderr.read()
        self.process.wait(PATIENCE)


def start_browser(chromium, folder):
    process = subprocess.Popen(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}",
         "--remote-allow-origins=*", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file, end = os.path.join(folder, "DevToolsActivePort"), time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if os.path.exists(file) and open(file).read().count("\n") >= 1:
            return process, int(open(file).read().split("\n")[0])
        time.sleep(0.1)
    process.kill()
    return None, 0


failures = []


def check(right, what):
    if not right:
        failures.append(what)
        print(f"FAILED: {what}")


# Text as models write it, and as those write it who want to get out of it.
MARKDOWN = r"""# A *heading* with `code`

Plain, **bold**, *leaning*, ~~gone~~, snake_case_name and 2 * 3 * 4, a [link](https://example.org/).

- one
- two
  1. two and *a half*
  2. ```sh
     echo "in a list"
     ```
- three

> quoted
> text

| a | b \| c |
|---|--:|
| 1 | `2` |

```c
int main(void) { return 1 < 2 && **p; }
```

<img src=x onerror="document.title = 'broken'"> <script>document.title = 'broken'</script>
[bad](javascript:alert(1)) ![picture](https://example.org/x.png) &lt;b&gt;

```
never closed <b>"""


def markdown(page):
    page.value("var box = document.createElement('div'); redraw(box, " + json.dumps(MARKDOWN) + ")")
    count = lambda what: page.value(f"box.querySelectorAll({json.dumps(what)}).length")
    text = lambda what: page.value(f"box.querySelector({json.dumps(what)}).textContent")
    check(text("h3") == "A heading with code" and count("h3 em, h3 code") == 2, "a heading")
    check(text("strong") == "bold" and text("s") == "gone", "bold, struck")
    check(page.value("box.children[1].querySelectorAll('em').length") == 1, "one emphasis")
    check(count("ul > li") == 3 and count("ul ol > li") == 2, "lists in lists")
    check(text("ol pre") == 'echo "in a list"', "code in a list")
    check(text("blockquote p") == "quoted\ntext", "a quotation")
    check(count("table th") == 2 and text("th + th") == "b | c" and text("td code") == "2", "table")
    check(page.value("box.querySelectorAll('pre')[1].textContent") ==
          "int main(void) { return 1 < 2 && **p; }", "code is left as it is")
    check(text(":scope > .block:last-child pre") == "never closed <b>", "an open block of code")
    check(count("img, script, b") == 0, "no element that the text asked for")
    check(page.value("[...box.querySelectorAll('a')].every((a) => /^https:/.test(a.href))"),
          "links lead to sites")
    check("<img src=x" in page.value("box.textContent"), "markup is text")
    check(page.value("""(() => { let whole = MD; for (let i = 0; i <= whole.length; i += 7) {
        redraw(box, whole.slice(0, i)); } redraw(box, whole); const a = box.innerHTML;
        const fresh = document.createElement('div'); redraw(fresh, whole);
        return a === fresh.innerHTML; })()""".replace("MD", json.dumps(MARKDOWN))),
        "piece by piece is the same as at once")
    # What would take a search minutes that tries everything, each below the length that is not
    # searched at all.
    runs = "".join("`" * n + "a" for n in range(1, 190))
    for hard in ("*" * 9000 + "[" * 9000, "a " + "`" * 19000, runs, "_a" * 9000, "~~~" * 6000):
        check(page.value(f"redraw(box, {json.dumps(hard)}), box.textContent.length > 0"),
              "hard text: " + hard[:9])


def conversation(page):
    page.value("document.getElementById('text').focus()")
    page.value("document.getElementById('max_tokens').value = 300")
    page.type("Tell me of the sea.")
    page.press("Enter", 13, 8)
    page.type("And of ships.")
    check(page.value("$('text').value") == "Tell me of the sea.\nAnd of ships.", "Shift+Enter")
    page.press("Enter", 13)
    page.until("messages.length === 2 && messages[1].content.length > 40")
    check(page.value("$('send').textContent") == "Stop" or page.value("!coming"), "a way to stop")
    page.until("!coming")
    check(page.value("messages[1].error === undefined"), "an answer: " +
          str(page.value("messages[1].error")))
    check(page.value("$('log').querySelectorAll('article').length") == 2, "two messages")
    note = page.value("messages[1].note")
    check(re.match(r"\d+ tokens, [\d.]+ a second, the first after", note), "figures: " + note)
    page.until("shown && shown.cells.filter((c) => c >> 7).length > 0")
    page.until("shown.cells.some((c) => (c & 127) === 0)")
    check(page.value("shown.layers * shown.experts === shown.cells.length"), "the grid's shape")
    check(re.match(r"Experts of \d+ layers: \d+ of \d+ in memory, \d+ used by the last pass",
                   page.value("$('grid').getAttribute('aria-label')")), "the grid in words")
    page.picture("light")
    page.dress(1280, 800, "dark")
    page.picture("dark")
    for width in (360, 820):
        page.dress(width, 740, "light", 2)
        check(page.value("document.documentElement.scrollWidth <= innerWidth"),
              f"fits {width} pixels")
        page.picture(f"width{width}")
    page.dress(360, 740, "dark", 2)
    page.value("$('engine').open = true")
    page.picture("phone_engine")
    page.value("$('engine').open = false; $('open').click()")
    page.picture("phone_settings")
    page.value("$('open').click()")
    page.dress(1280, 800)
    page.value("$('engine').open = true")


# An answer as a server sends it that thinks and calls; after the first, one that never ends.
ANSWER = [
    {"reasoning_content": "The weather is asked for, so "}, {"reasoning_content": "I look it up."},
    {"content": "I *look* it up."},
    {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                     "function": {"name": "get_weather", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '"Delhi"}'}}]},
]
STAND_IN = """
window.realAsk = ask; window.bodies = [];
ask = async (path, options) => {
  if (!path.startsWith("v1/chat")) return realAsk(path, options);
  bodies.push(JSON.parse(options.body));
  const bytes = new TextEncoder().encode(EVENTS.map((delta) => ": still here\\n\\ndata: " +
    JSON.stringify({ choices: [{ delta }] }) + "\\n\\n").join("") +
    (bodies.length > 1 ? "" : "data: [DONE]\\n\\n"));
  return new Response(new ReadableStream({ start(out) {
    for (let i = 0; i < bytes.length; i += 11) out.enqueue(bytes.slice(i, i + 11));
    if (bodies.length === 1) out.close();
    options.signal.addEventListener("abort", () => { try { out.error(options.signal.reason); }
      catch { /* it is closed */ } });
  } }));
}; 0"""


def calling(page):
    """Thoughts and calls, from a stand-in: what a small model does is not certain."""
    page.value("$('new').click(); $('tools').value = '[]'; $('text').focus()")
    page.value(STAND_IN.replace("EVENTS", json.dumps(ANSWER)).replace("\\\\", "\\"))
    page.type("What is the weather in Delhi?")
    page.press("Enter", 13)
    page.until("messages.length === 2 && !coming")
    check(page.value("messages[1].error === undefined"), "a call: " +
          str(page.value("messages[1].error")))
    text = lambda what: page.value(f"$('log').querySelector({json.dumps(what)}).textContent")
    check(text(".call code") == "get_weather", "a call is shown")
    check(text(".call pre") == '{"city": "Delhi"}', "its arguments")
    check(text(".thought div") == "The weather is asked for, so I look it up.", "thoughts")
    check(page.value("!$('log').querySelector('.thought').open"), "thoughts are folded")
    check(text(".body em") == "look", "and the text")
    page.picture("call")
    page.value("$('log').querySelector('.call textarea').focus()")
    page.type('{"celsius": 31}')
    page.value("$('log').querySelector('.call button').click()")
    page.until("messages.length === 4 && messages[3].calls.length === 1")
    check(page.value("bodies[1].messages[1].tool_calls[0].id === 'call_1' && "
                     "bodies[1].messages[2].role === 'tool' && "
                     "bodies[1].messages[2].tool_call_id === 'call_1'"), "the result is sent")
    check(page.value("$('send').textContent === 'Stop' && "
                     "$('log').getAttribute('aria-busy') === 'true'"), "it says that it is at work")
    page.picture("streaming")
    page.press("Escape", 27)
    page.until("!coming")
    check(page.value("messages[3].note === 'stopped' && messages[3].error === undefined"), "Escape")
    page.value("ask = realAsk; $('new').click(); $('tools').value = ''")


def stopping(page):
    page.value("$('max_tokens').value = ''; $('text').focus()")
    page.type("Once upon a time")
    page.press("Enter", 13)
    page.until("messages.length === 2 && messages[1].content.length > 5 || !coming")
    page.press("Escape", 27)
    page.until("!coming")
    check(page.value("messages[1].note") is not None, "a note after stopping")
    page.value("window.before = true")
    page.do("Page.reload")
    page.until("!window.before && document.readyState === 'complete' && "
               "typeof messages !== 'undefined' && messages.length === 2 && "
               "document.querySelectorAll('article').length === 2")


def going_wrong(page, server):
    page.value("$('tools').value = '[{'; $('text').focus()")
    page.type("And now?")
    page.press("Enter", 13)
    page.until("!coming && document.querySelector('.error')")
    check("tools" in page.value("document.querySelector('.error').textContent"), "tools")
    page.value("$('tools').value = ''; $('temperature').value = -1; again()")
    page.until("!coming && document.querySelector('.error')")
    check("temperature" in page.value("document.querySelector('.error').textContent"),
          "the server's own words")
    page.complaints.clear()  # the browser says 400 too
    page.value("$('temperature').value = ''")
    server.stop()
    page.value("again()")
    page.until("!coming && document.querySelector('.error')")
    check("does not answer" in page.value("document.querySelector('.error').textContent"),
          "nobody there")
    page.picture("error")
    page.value("$('new').click()")
    check(page.value("messages.length === 0 && localStorage['sluice.messages'] === '[]'"), "New")
    page.picture("empty")


def with_key(debugger, program):
    server = Server(program, "--api-key", "sesame")
    try:
        page = Page(debugger, server.url)
        page.dress(1280, 800)
        page.until("!$('door').hidden && document.activeElement.id === 'key'")
        page.type("parsley")
        page.press("Enter", 13)
        page.until("!$('door').hidden && $('wrong').textContent !== ''")
        page.picture("key")
        page.type("sesame")
        page.press("Enter", 13)
        page.until("$('model').textContent !== ''")
        check(page.value("$('door').hidden"), "the key does")
        check(page.value("sessionStorage['sluice.key'] === 'sesame'"), "the key is kept in the tab")
        check(page.value("localStorage['sluice.key'] === undefined"), "and nowhere else")
    finally:
        server.stop()


def main():
    folder = tempfile.mkdtemp(prefix="sluice-page.")
    browser, debugger = start_browser(CHROMIUM, folder)
    if not browser:
        print("skipped: the browser does not start here")
        return 77
    server = None
    try:
        server = Server(PROGRAM, "--cache", "2M")
        page = Page(debugger, server.url)
        page.dress(1280, 800)
        page.until("$('model').textContent !== ''")
        markdown(page)
        conversation(page)
        calling(page)
        stopping(page)
        check(not page.complaints, f"the browser complains: {page.complaints}")
        going_wrong(page, server)
        server = None
        with_key(debugger, PROGRAM)
    except RuntimeError as error:
        check(False, str(error))
    finally:
        if server:
            server.stop()
        browser.terminate()
        browser.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


PROGRAM, CHROMIUM = sys.argv[1:3]
FOLDER = sys.argv[3] if len(sys.argv) > 3 else None
sys.exit(main())
