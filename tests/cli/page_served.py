#!/usr/bin/env python3
"""What a server (with the key "sesame") says of its page and of the map of experts.

    page_served.py PORT SOURCE
"""
import base64
import hashlib
import html.parser
import http.client
import json
import re
import sys
import time

PORT, SOURCE = int(sys.argv[1]), sys.argv[2]
failures = []


def check(right, what):
    if not right:
        failures.append(what)
        print(f"FAILED: {what}")


def ask(path, method="GET", body=None, key=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
    response = connection.getresponse()
    return response.status, response, response.read()


class Outline(html.parser.HTMLParser):
    """Elements are closed in order, and nothing is asked for from elsewhere."""

    EMPTY = {"meta", "link", "input", "br", "hr", "img"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.labels, self.fields = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        for name in ("src", "href", "action", "srcset"):
            value = attrs.get(name) or "#"
            check(value[0] == "#" or value.startswith("data:"), f"<{tag}> refers to {value}")
        check(not any(name.startswith("on") or name == "style" for name in attrs),
              f"<{tag}> has what the policy forbids: {sorted(attrs)}")
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "label":
            self.labels.append(attrs.get("for"))
        if tag in ("input", "textarea", "select"):
            self.fields.append((attrs["id"], "label" in self.open))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        check(self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}")
        if self.open:
            self.open.pop()


def digest(page, tag):
    inside = page.split(f"<{tag}>".encode())[1].split(f"</{tag}>".encode())[0]
    return "'sha256-" + base64.b64encode(hashlib.sha256(inside).digest()).decode() + "'"


def check_page():
    status, response, page = ask("/")
    policy = response.getheader("Content-Security-Policy") or ""
    check(status == 200 and response.getheader("Content-Type") == "text/html; charset=utf-8", "/")
    check(page == open(SOURCE, "rb").read(), "the page is the source's bytes")
    check(len(page) < 60 << 10, f"{len(page)} bytes are too many")
    text = page.decode("utf-8")
    check("default-src 'none'" in policy and "connect-src 'self'" in policy, "policy: " + policy)
    check("unsafe" not in policy and "frame-ancestors 'none'" in policy, "policy: " + policy)
    check("script-src " + digest(page, "script") in policy, "the script's hash")
    check("style-src " + digest(page, "style") in policy, "the style's hash")
    check(not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(",
                        text), "the script makes nodes from text")
    outline = Outline()
    outline.feed(text)
    check(outline.open == [], f"not closed: {outline.open}")
    check(len(set(outline.ids)) == len(outline.ids), "an id is there twice")
    for name, inside in outline.fields:
        check(inside or name in outline.labels, f"#{name} has no label")
    for name in re.findall(r"\$\(\"([a-z_-]+)\"\)", text):
        check(name in outline.ids, f"the script asks for #{name}")
    check(ask("/favicon.ico")[0] == 204, "icon")
    check(ask("/", "POST", "{}")[0] == 405, "a page is not posted to")


def experts():
    status, _, body = ask("/engine/experts", key="sesame")
    check(status == 200, "map of experts")
    told = json.loads(body)
    cells = base64.b64decode(told["map"], validate=True)
    check(len(cells) == told["layers"] * told["experts"] > 0, "a cell an expert")
    return told, cells


def check_map():
    check(ask("/engine/experts")[0] == 401, "the map needs the key")
    told, cells = experts()
    check(all(cell == 0x7f for cell in cells), "at first nothing is in memory, or was used")
    request = {"messages": [{"role": "user", "content": "Good morning"}], "max_tokens": 5}
    status, _, body = ask("/v1/chat/completions", "POST", json.dumps(request), "sesame")
    check(status == 200, f"an answer: {body}")
    wanted = json.loads(ask("/engine", key="sesame")[2])["experts_per_token"]
    used, end = [], time.monotonic() + 120
    while time.monotonic() < end and used != [wanted] * told["layers"]:
        told, cells = experts()  # the last copy first; an engine at rest then makes another
        used = [sum(cell & 0x7f == 0 for cell in cells[i:i + told["experts"]])
                for i in range(0, len(cells), told["experts"])]
        time.sleep(0.05)
    check(used == [wanted] * told["layers"], f"the last token's experts, a layer: {used}")
    check(any(cell == 0x80 for cell in cells), "experts in memory, used by the last pass")


check_page()
check_map()
print(f"{len(failures)} failed")
sys.exit(bool(failures))
