#!/usr/bin/env python3
"""A hub on this machine, for tests/cli/pull.sh: the API, and a second port in the place of the CDN.

    fake_hub.py ROOT

ROOT/ORG/NAME/… are the repositories. Prints two ports, the hub's and the CDN's, and serves until it
is killed. Every request is a line of ROOT/log:

    hub|cdn METHOD PATH RANGE AUTHORIZATION SENT

ROOT/behave says what to do wrong: lines "KIND NUMBER [ARGUMENT]"; each is done that many times and
counted down. Kinds are in behave(), below, and where they are asked for.
"""
import hashlib
import http.server
import json
import pathlib
import sys
import threading
import time
import urllib.parse

ROOT = pathlib.Path(sys.argv[1])
LARGE = 100_000  # bytes from which on a file goes by the CDN, with SHA-256
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOCK = threading.Lock()
BEHAVE = {}
SEEN = ""


def behave(kind):
    """Whether to do this wrong now; the argument, or True."""
    global SEEN
    with LOCK:
        path = ROOT / "behave"
        text = path.read_text() if path.exists() else ""
        if text != SEEN:
            SEEN = text
            BEHAVE.clear()
            for line in text.splitlines():
                name, count, *rest = line.split()
                BEHAVE[name] = [int(count), rest[0] if rest else True]
        entry = BEHAVE.get(kind)
        if not entry or entry[0] == 0:
            return None
        entry[0] -= 1
        return entry[1]


def sums(path):
    data = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return len(data), git, hashlib.sha256(data).hexdigest()


def describe(folder):
    siblings = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        size, git, sha = sums(path)
        if path.name == "wrong-sum.bin" or behave("wrong-sum"):
            sha = "0" * 64
        entry = {"rfilename": path.relative_to(folder).as_posix(), "size": size, "blobId": git}
        if size >= LARGE:
            entry["lfs"] = {"sha256": sha, "size": size, "pointerSize": 130}
        siblings.append(entry)
    if bad := behave("bad-path"):
        siblings.append({"rfilename": bad, "size": 1, "blobId": "0" * 40})
    if huge := behave("huge"):
        siblings.append({"rfilename": "huge.json", "size": int(huge), "blobId": "0" * 40})
    return {"id": "x", "sha": COMMIT, "private": False, "siblings": siblings}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    side = "hub"

    def log_message(self, *_):
        pass

    def note(self, sent):
        with LOCK, self.log:
            self.log.write(f"{self.side} {self.command} {self.path} "
                           f"{self.headers.get('Range', '-')} "
                           f"{'yes' if self.headers.get('Authorization') else 'no'} {sent}\n")

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.note(len(body))

    def trouble(self):
        """What can go wrong with any request; True where it has been answered so."""
        if wait := behave(f"{self.side}-429"):
            self.answer(429, b"", [("Retry-After", wait)])
        elif behave(f"{self.side}-503"):
            self.answer(503)
        elif behave(f"{self.side}-drop"):
            self.note(0)
            self.close_connection = True
            self.connection.close()
        else:
            return False
        return True

    def send_file(self, path):
        data = path.read_bytes()
        size, first, last = len(data), 0, len(data) - 1
        status, wanted = 200, self.headers.get("Range")
        if wanted and not behave("no-ranges"):
            first, last = (int(x) for x in wanted.removeprefix("bytes=").split("-"))
            last = min(last, size - 1)
            status = 206
            if behave("other-range"):
                first = max(first - 1, 0)
        if behave("spoilt"):
            data = bytes([data[0] ^ 1]) + data[1:]
        body = data[first:last + 1]
        said = len(body) + int(behave("lying-length") or 0)
        self.send_response(status)
        self.send_header("Content-Length", str(said))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        cut = behave("cut")
        if cut:
            body = body[:int(cut)]
        sent = 0
        try:
            while sent < len(body):
                part = body[sent:sent + (1 << 18)]
                self.wfile.write(part)
                sent += len(part)
                if slow := behave("slow"):
                    time.sleep(float(slow))
        except OSError:
            pass
        self.note(sent)
        if cut or said != len(body):
            self.close_connection = True

    def do_GET(self):
        # The log of when it was asked: what ends late is not counted with what began since.
        self.log = open(ROOT / "log", "a")
        if self.trouble():
            return
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        if self.side == "cdn":
            self.get_cdn(parts)
        elif parts[:2] == ["api", "models"]:
            self.get_list(parts[2:])
        else:
            self.get_file(parts)

    def get_cdn(self, parts):
        if behave("expired"):
            return self.answer(403)
        self.send_file(ROOT.joinpath(*parts))

    def allowed(self, name):
        """False, with the refusal sent, where the repository wants a token."""
        sent = self.headers.get("Authorization")
        if name.startswith("gated") and sent != "Bearer secret":
            self.answer(401, b"no", [("X-Error-Code", "GatedRepo" if sent else "RepoNotFound")])
            return False
        if name.startswith("closed"):
            self.answer(403, b"no", [("X-Error-Code", "GatedRepo")])
            return False
        return True

    def get_list(self, parts):
        org, name, _, revision = parts[:4]
        if not self.allowed(name):
            return
        if not (ROOT / org / name).is_dir():
            return self.answer(404, b"{}", [("X-Error-Code", "RepoNotFound")])
        if revision not in ("main", "v1/rc", COMMIT):
            return self.answer(404, b"{}", [("X-Error-Code", "RevisionNotFound")])
        if junk := behave("junk"):
            return self.answer(200, junk.encode())
        body = json.dumps(describe(ROOT / org / name)).encode()
        self.answer(200, body, [("Content-Type", "application/json")])

    def get_file(self, parts):
        org, name, _, _, *rest = parts
        path = ROOT.joinpath(org, name, *rest)
        if not self.allowed(name):
            return
        if not path.is_file() or behave("missing"):
            return self.answer(404, b"no", [("X-Error-Code", "EntryNotFound")])
        if behave("loop"):
            return self.answer(302, b"", [("Location", self.path)])
        if place := behave("elsewhere"):
            return self.answer(302, b"", [("Location", place)])
        if path.stat().st_size < LARGE:
            return self.send_file(path)
        cdn = f"http://127.0.0.1:{CDN.server_port}"
        self.answer(302, b"", [("Location", cdn + "/" + urllib.parse.quote("/".join(
            [org, name, *rest])) + "?signed=1")])


class CdnHandler(Handler):
    side = "cdn"


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that went away


HUB = Server(("127.0.0.1", 0), Handler)
CDN = Server(("127.0.0.1", 0), CdnHandler)
threading.Thread(target=CDN.serve_forever, daemon=True).start()
print(HUB.server_port, CDN.server_port, flush=True)
HUB.serve_forever()
