"""A running `sluice serve` for the tests beside this file: started on a free port, spoken to with
Python's own library, stopped with a signal. Also the few lines that the tests share."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEMO = os.path.join(ROOT, "models", "demo")
PATIENCE = 300  # seconds; nothing here measures time


class Server:
    """with Server(program, ["--queue", "4"]) as s: s.post("/v1/completions", {...})"""

    def __init__(self, program, options=(), model=DEMO, env=None, folder=None):
        self.stopped = None
        self.headers = {} # sent with every request
        self.cache = tempfile.TemporaryDirectory(prefix="sluice-serve.")
        environment = dict(os.environ) | {"XDG_CACHE_HOME": self.cache.name} | (env or {})
        environment.pop("SLUICE_API_KEY", None)
        command = [os.path.abspath(program), "serve", model, "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=environment, text=True, cwd=folder)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            found = re.search(r"http://(\S+):(\d+)/", line)
            if found:
                self.host, self.port = found.group(1).strip("[]"), int(found.group(2))
                break
        else:
            raise RuntimeError("the server did not start: " + "".join(self.said))
        self.reader = threading.Thread(target=self.read_on)
        self.reader.start()

    def read_on(self):
        for line in self.process.stderr:
            self.said.append(line)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.stopped is None:
            code = self.stop()
            if kind is None:
                expect(code == 0, f"the server ends with {code}: {''.join(self.said)[-3000:]}")

    def stop(self, how=signal.SIGTERM):
        """Stops it; its exit code."""
        self.process.send_signal(how)
        self.stopped = self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stderr.close()
        self.cache.cleanup()
        return self.stopped

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, bytes)"""
        c = self.connect()
        try:
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            c.request(method, path, body, self.headers | (headers or {}))
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def get(self, path, headers=None):
        status, _, data = self.ask("GET", path, headers=headers)
        return status, json.loads(data)

    def post(self, path, body, headers=None):
        status, _, data = self.ask("POST", path, body, headers)
        return status, json.loads(data)

    def metric(self, name):
        _, _, data = self.ask("GET", "/metrics")
        return float(re.search(rf"^sluice_{name} (\S+)$", data.decode(), re.M).group(1))

    def raw(self, data):
        """A socket on which these bytes were sent."""
        s = socket.create_connection((self.host, self.port), timeout=PATIENCE)
        s.sendall(data)
        return s


failures = 0
checks = 0


def expect(truth, what):
    global failures, checks
    checks += 1
    if not truth:
        failures += 1
        print(f"FAILED: {what}", flush=True)
    return truth


def finish():
    print(f"{checks} checks, {failures} failed")
    sys.exit(1 if failures else 0)
