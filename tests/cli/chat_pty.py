#!/usr/bin/env python3
"""sluice chat as somebody in a terminal sees it.

    chat_pty.py PROGRAM MODEL FOLDER

Prints a line for each thing that is not as it should be; exits with 1 then, with 77 where there is
no terminal to be had.
"""
import json
import os
import pathlib
import re
import select
import signal
import sys
import time

try:
    import fcntl
    import pty
    import struct
    import termios
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

WAIT = 120  # seconds; a bound for what hangs, not a measure
failures = []


def check(condition, what):
    if not condition:
        failures.append(what)
        print(f"FAILED: {what}")


class Chat:
    """A program on a terminal of its own."""

    plain = False  # it was seen that nothing is edited

    def __init__(self, arguments, columns=100, **environment):
        self.text = ""
        self.raw = b""
        self.seen = 0
        self.dumb = environment.get("TERM") == "dumb"
        child, self.fd = pty.fork()
        if child == 0:
            os.environ.update(environment)
            os.execv(arguments[0], arguments)
        self.child = child
        size = struct.pack("HHHH", 30, columns, 0, 0)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def read_some(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.raw += data
        self.text = self.raw.decode("utf-8", "replace")
        return bool(data)

    def expect(self, pattern):
        """Waits for a pattern after what was expected last; the match."""
        end = time.monotonic() + WAIT
        while True:
            match = re.compile(pattern, re.DOTALL).search(self.text, self.seen)
            if match:
                self.seen = match.end()
                return match
            if time.monotonic() > end or not self.read_some(1) and self.over():
                check(False, f"{pattern!r} does not come: {self.text[-600:]!r}")
                return None

    def over(self):
        try:
            return os.waitpid(self.child, os.WNOHANG | os.WNOWAIT)[0] != 0
        except (AttributeError, ChildProcessError, OSError):
            return False

    def send(self, text):
        os.write(self.fd, text.encode())

    def settle(self):
        """Waits until what is sent is read by libedit, where that is there: it shows its prompt,
        and then turns off that the terminal itself takes Ctrl-D and echoes."""
        end = time.monotonic() + WAIT
        if self.dumb or Chat.plain:
            return
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            self.read_some(0.01)
            if time.monotonic() > end:
                Chat.plain = True
                return

    def prompt(self):
        self.expect("> ")
        self.settle()

    def edits(self):
        """Whether libedit is there: it asks the terminal for what it does itself."""
        return "\033[C" in self.text or "\033[K" in self.text

    def drain(self):
        while self.read_some(0.5):
            pass

    def code(self):
        """The exit code, of a program that is to end now; minus a signal."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            self.read_some(0.1)
            pid, status = os.waitpid(self.child, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        os.close(self.fd)
        return None


def test_talk(start):
    """Two turns, figures, styles, history, Ctrl-D."""
    chat = start("-n", "30")
    chat.expect(r"/help lists commands\)")
    chat.prompt()
    chat.send("What is **this**?\n")
    chat.expect(r"tok/s, .* hits, .* in context\)")
    chat.prompt()
    check("\033[2m(" in chat.text, "remarks are dim")
    chat.send("caf\u00e9 \u4e16\u754c\x7f\x7f!\n")  # two backspaces take two characters
    chat.expect(r"in context\)")
    chat.prompt()
    chat.send("/stats\n")
    chat.expect("sampling ")
    chat.prompt()
    chat.send("\x04")
    check(chat.code() == 0, "Ctrl-D leaves with 0")
    last = start.last()
    check(last["messages"][0]["content"] == "What is **this**?", "the message is kept as it was")
    if chat.edits():
        check(last["messages"][2]["content"] == "caf\u00e9 !", f"edited UTF-8: {last['messages']}")
        history = start.state / "sluice" / "chat_history"
        check(history.stat().st_mode & 0o777 == 0o600, "others may read the history")
        chat = start("-n", "5", "--resume")
        chat.expect("goes on after 4 messages")
        chat.prompt()
        chat.send("\x1b[A\x1b[A\n")  # the line before the last of the first chat
        chat.expect(r"in context\)")
        chat.prompt()
        chat.send("\x04")
        check(chat.code() == 0, "Ctrl-D after --resume")
        check(len(start.last()["messages"]) == 6, "--resume goes on")


def test_interrupt(start):
    """Ctrl-C stops an answer; at the prompt, two of them leave."""
    chat = start("--temp", "2", "--top-k", "0", "--top-p", "1", "--seed", "5")
    chat.prompt()
    stopped = 0
    for _ in range(20):  # an answer may end by itself
        chat.send("Tell me everything.\n")
        chat.expect(r"everything\.\r\n.{40}")
        chat.send("\x03")
        match = chat.expect(r"\(stopped\)|once more|\^C(?=> )")
        chat.prompt()
        if match and match.group(0) == "(stopped)":
            stopped += 1
        else:  # it came after the answer, or at the prompt
            chat.send("/thinking\n")
            chat.prompt()
        if stopped == 3 or not match:
            break
    check(stopped == 3, "Ctrl-C stops answers")
    chat.send("/save " + str(start.folder / "stopped.json") + "\n")
    chat.expect("messages in ")
    saved = json.loads((start.folder / "stopped.json").read_text())["messages"]
    roles = [m["role"] for m in saved]
    check(len(roles) >= 6 and roles == ["user", "assistant"] * (len(roles) // 2), f"kept: {saved}")
    chat.prompt()
    chat.send("\x03")
    chat.expect("Ctrl-C once more, or Ctrl-D, leaves")
    chat.prompt()
    chat.send("/thinking\n")
    chat.expect(r"\(thinking: dim\)")
    chat.prompt()
    chat.send("\x03")
    chat.expect("Ctrl-C once more")
    chat.prompt()
    chat.send("\x03")
    check(chat.code() == 0, "the second Ctrl-C leaves with 0")


def test_end(start):
    """SIGTERM at the prompt ends the program and leaves the terminal as it was."""
    chat = start()
    chat.prompt()
    before = termios.tcgetattr(chat.fd)[3]
    os.kill(chat.child, signal.SIGTERM)
    chat.drain()
    check(termios.tcgetattr(chat.fd)[3] & termios.ECHO or not before & termios.ICANON,
          "the terminal echoes again")
    check(chat.code() in (0, -signal.SIGTERM), "SIGTERM ends")


def test_lines(start):
    """Messages of several lines."""
    chat = start("-n", "4")
    chat.prompt()
    chat.send("one\\\n")
    chat.expect(r"\. ")
    chat.settle()
    chat.send("two\n")
    chat.expect(r"in context\)")
    chat.prompt()
    chat.send('"""\n')
    chat.expect(r"\. ")
    chat.settle()
    chat.send("/three\n")
    chat.expect(r"\. ")
    chat.settle()
    chat.send('"""\n')
    chat.expect(r"in context\)|no command")
    chat.prompt()
    chat.send("\x04")
    chat.code()
    contents = [m["content"] for m in start.last()["messages"] if m["role"] == "user"]
    check(contents == ["one\ntwo", "/three\n"], f"several lines: {contents}")


def test_plain(start):
    """NO_COLOR, TERM=dumb, narrow terminals."""
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        chat = start("-n", "30", **environment)
        chat.prompt()
        chat.send("Show me `code` and **bold**.\n")
        chat.expect(r"in context\)")
        answer = chat.text[chat.text.index("bold"):]
        check(not re.search("\033\\[[0-9;]*m", answer), f"{environment}: attributes: {answer!r}")
        chat.prompt()
        chat.send("\x04")
        check(chat.code() == 0, f"{environment}: leaves with 0")
    check("\033" not in chat.text, f"TERM=dumb: commands of terminals: {chat.text!r}")
    chat = start("-n", "5", columns=30)
    chat.prompt()
    chat.send("Hi\n")
    figures = chat.expect(r"\(([0-9][^)]*tok/s[^)]*)\)")
    check(figures and len(figures.group(1)) < 30, f"the figures wrap: {figures}")
    chat.prompt()
    chat.send("\x04")
    chat.code()


def test_tools(start):
    """A call runs after y and after nothing else; what is hidden in it is seen."""
    ran = start.folder / "ran"
    tools = [{"name": "play_music", "description": "Plays a piece of music",
              "parameters": {"type": "object", "properties": {
                  "artist": {"type": "string"}, "title": {"type": "string"}},
                  "required": ["title"]},
              "command": ["sh", "-c", f"echo \"$1\" >>{ran}; echo \033[31mred", "a\u202eb",
                          "{title}"]}]
    (start.folder / "pty-tools.json").write_text(json.dumps(tools))
    for reply in ("n", "", "yep", "\x04", "\x03", "y"):
        ran.unlink(missing_ok=True)
        chat = start("--tools", str(start.folder / "pty-tools.json"), "--greedy", "-n", "60")
        chat.prompt()
        chat.send("Play Doctor Forest by Handel\n")
        match = chat.expect(r"play_music: sh -c [^\r\n]*|in context\)")
        if not match or "play_music" not in match.group(0):
            print("the model calls no tool: not tested")
            return
        chat.expect(r"run it\? \[y/N\] ")
        chat.settle()
        check("\\u{202e}" in chat.text and "\\u{1b}[31m" in chat.text, "hidden characters")
        check("\u202e" not in chat.text and "\033[31m" not in chat.text, "they are shown raw")
        chat.send(reply if reply in ("\x04", "\x03") else reply + "\n")
        while True:  # of further calls none is run
            match = chat.expect(r"in context\)|stopped|run it\? ")
            if not match or "run it" not in match.group(0):
                break
            chat.settle()
            chat.send("n\n")
        chat.prompt()
        chat.send("/quit\n")
        check(chat.code() == 0, f"after {reply!r} it leaves with 0")
        check(ran.exists() == (reply == "y"), f"{reply!r}: ran or not")
        kept = [m for m in start.last()["messages"] if m["role"] == "tool"]
        check(kept and ("red" in kept[0]["content"]) == (reply == "y"), f"{reply!r}: {kept}")


class Start:
    """Starts chats, all with the same folders."""

    def __init__(self, program, model, folder):
        self.program, self.model = os.path.abspath(program), model
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "pty-state"
        self.state.mkdir()

    def __call__(self, *arguments, columns=100, **environment):
        fixed = {"XDG_STATE_HOME": str(self.state), "TERM": "xterm", "NO_COLOR": "",
                 "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}
        return Chat([self.program, "chat", self.model, *arguments], columns,
                    **{**fixed, **environment})

    def last(self):
        """What is remembered."""
        paths = list((self.state / "sluice").glob("chat-*.json"))
        check(len(paths) == 1, f"remembered: {paths}")
        return json.loads(paths[0].read_text())


def main(program, model, folder):
    start = Start(program, model, folder)
    for test in (test_talk, test_interrupt, test_end, test_lines, test_plain, test_tools):
        try:
            test(start)
        except OSError as error:
            check(False, f"{test.__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.exit(1 if failures else 0)
