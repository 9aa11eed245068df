"""1,000 bad requests, and bad configurations, each get a clear error; the server never minds."""

import contextlib
import json
import random
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_from_bytes

import pytest

from runtime.ids import NamespaceKey

from .conftest import PROGRAMS, WRANGLER

SCRIPT = (PROGRAMS / "web_worker.py").read_text()
LIMITED = WRANGLER + "[roost]\nrequest_body = 100_000\n"
ROOMS = NamespaceKey("house-Room")
GOOD = b"GET /whoami?roomId=a HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n"
TEXTS = (
    "a",
    "ab c",
    "\0",
    "é",
    "日本",
    "😀",
    "%",
    "&",
    "=",
    "#",
    "/",
    "..",
    "\r\nX: y",
    "'\"",
    "\x7f",
)


class Bad:
    """Makes requests that are wrong in all kinds of ways; the same ones for the same seed."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def one(self):
        """Return a request, and which statuses answer it; the connection may be closed instead."""
        kinds = (
            self.noise,
            self.request_line,
            self.header_line,
            self.host,
            self.target,
            self.length,
            self.chunks,
            self.too_much,
            self.cut_off,
            self.mutated,
            self.room,
        )
        return self.chance.choice(kinds)()

    def junk(self, most=40):
        return self.chance.randbytes(self.chance.randrange(1, most))

    def word(self, most=40):
        return bytes(
            self.chance.choice(b"abcXYZ019-_.~") for _ in range(self.chance.randrange(1, most))
        )

    def request(
        self, line=b"GET /whoami?roomId=a HTTP/1.1", *headers, body=b"", host=b"Host: house"
    ):
        rows = [line, *([host] if host else []), *headers, b"", b""]
        return b"\r\n".join(rows) + body

    def noise(self):
        return self.junk(2000) + b"\r\n\r\n", {400}

    def request_line(self):
        lines = (
            b"",
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"get / HTTP/1.1",
            b"G\0T / HTTP/1.1",
            b"/ HTTP/1.1",
            b"GET / HTTP/9.9",
            b"GET / HTTP/1.1 x",
            b"GET / HTTPS/1.1",
            b"PRI * HTTP/2.0",
            b"GET /\x80 HTTP/1.1",
            b"GET / " + self.word(),
            self.word() + b" / HTTP/1.1",
            self.junk() + b" / HTTP/1.1",
        )
        return self.request(self.chance.choice(lines)), {400, 404, 405, 501, 505}

    def header_line(self):
        headers = (
            b"no colon",
            b": no name",
            b"X : space",
            b"X\0: nul",
            b"X: \0",
            b"X: a\r\n folded",
            b"\xff: x",
            b"X: " + b"y" * 100_000,
            b"\r\n".join(b"X%d: y" % n for n in range(20_000)),
            self.junk() + b": x",
            b"Upgrade: websocket\r\nConnection: Upgrade",
            b"Expect: " + self.word(),
            b"Transfer-Encoding: " + self.word(),
            b"Connection: " + self.junk(),
        )
        line = b"GET /whoami?roomId=a HTTP/1.1"
        return self.request(line, self.chance.choice(headers)), {200, 400, 413, 417, 426, 431, 501}

    def host(self):
        hosts = (
            b"",
            b"Host:",
            b"Host: a b",
            b"Host: a\r\nHost: b",
            b"Host: a:99999",
            b"Host: a:port",
            b"Host: user@a",
            b"Host: a/b",
            b"Host: [::1",
            b"Host: \xff",
            b"Host: " + self.junk(),
        )
        return self.request(host=self.chance.choice(hosts)), {400}

    def target(self):
        targets = (
            b"*",
            b"whoami",
            b"house:80",
            b"http://other/whoami?roomId=a",
            b"ftp://house/",
            b"//house/whoami",
            b"/%",
            b"/%zz",
            b"/%00",
            b"/../../etc/passwd",
            b"/..%2f..%2fetc%2fpasswd",
            b"/cdn-cgi/" + self.word(),
            b"/" + b"a" * 100_000,
            b"/?" + b"&".join([b"a=b"] * 10_000),
            b"/#fragment",
            b"/\\",
            b"/?roomId",
            b"/?roomid=a",
            b"/?" + quote_from_bytes(self.junk()).encode(),
            b"/" + quote_from_bytes(self.junk()).encode(),
        )
        line = b"GET %b HTTP/1.1" % self.chance.choice(targets)
        return self.request(line), {200, 400, 404, 414, 431}

    def length(self):
        lengths = (b"-1", b"x", b"1e3", b"0x10", b"1, 2", b"", b"9" * 30, b"100001", self.junk())
        length = b"Content-Length: " + self.chance.choice(lengths)
        more = self.chance.choice(([], [b"Content-Length: 7"], [b"Transfer-Encoding: chunked"]))
        return self.request(b"POST /digest?roomId=a HTTP/1.1", length, *more), {400, 413}

    def chunks(self):
        bodies = (
            b"x\r\n",
            b"-1\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"3\r\nabcd\r\n",
            self.junk(200),
        )
        return self.request(
            b"POST /digest?roomId=a HTTP/1.1",
            b"Transfer-Encoding: chunked",
            body=self.chance.choice(bodies),
        ), {400, 413}

    def too_much(self):
        if self.chance.random() < 0.5:
            body = b"x" * self.chance.randrange(100_001, 300_000)
            length = b"Content-Length: %d" % len(body)
            return self.request(b"POST /digest?roomId=a HTTP/1.1", length, body=body), {413}
        body = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        return self.request(
            b"PUT /digest?roomId=a HTTP/1.1",
            b"Transfer-Encoding: chunked",
            body=body * 8 + b"0\r\n\r\n",
        ), {413}

    def cut_off(self):
        whole = self.request(
            b"POST /digest?roomId=a HTTP/1.1", b"Content-Length: 50", body=b"x" * 50
        )
        return whole[: self.chance.randrange(len(whole))], set()  # nothing is to come

    def mutated(self):
        request = bytearray(GOOD)
        for _ in range(self.chance.randrange(1, 6)):
            request[self.chance.randrange(len(request) - 4)] = self.chance.randrange(256)
        return bytes(request), {200, 400, 404, 405, 413, 417, 426, 501, 505}

    def room(self):
        """A good request, for a name that makes one wonder."""
        name = "".join(self.chance.choices(TEXTS, k=self.chance.randrange(1, 300)))
        line = f"GET /whoami?roomId={quote(name)} HTTP/1.1".encode()
        return self.request(line, b"Connection: close"), {name}


def exchange(port, request, *, leave=False):
    """Send a request, and return the response, or what came before the connection was closed.

    `leave` does not wait for a response, but ends the sending side at once.
    """
    said = b""
    with (
        socket.create_connection(("127.0.0.1", port), 30) as connection,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        connection.sendall(request)
        if leave:
            connection.shutdown(socket.SHUT_WR)
        while not is_whole(said) and (piece := connection.recv(65_536)):
            said += piece
    return said


def is_whole(said):
    """Whether a response has all its body."""
    head, end, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def judge(request, expected, said):
    """Return what is wrong with an answer, or nothing."""
    if not said:
        return None  # the connection was closed
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", said)
    if status is None:
        return f"no HTTP: {said[:100]!r} to {request[:200]!r}"
    body = said.partition(b"\r\n\r\n")[2]
    [wanted] = expected if len(expected) == 1 else [None]
    if isinstance(wanted, str):
        facts = json.loads(body) if status[1] == b"200" else None
        if facts is None or (facts["name"], facts["id"]) != (wanted, str(ROOMS.from_name(wanted))):
            return f"room {wanted!r} got {said[:300]!r}"
        return None
    if int(status[1]) not in expected:
        return f"{status[1]} to {request[:200]!r}: {body[:200]!r}"
    if int(status[1]) >= 400 and not body.strip():
        return f"{status[1]} without a word to {request[:200]!r}"
    return None


def test_1000_bad_requests_get_clear_errors_and_leave_the_server_as_it_was(serve):
    served = serve(SCRIPT, wrangler=LIMITED)
    before = json.loads(exchange(served.port, GOOD).partition(b"\r\n\r\n")[2])
    bad = Bad(seed=2024)
    requests = [bad.one() for _ in range(1000)]

    def ask(request):
        said = exchange(served.port, request[0], leave=not request[1])
        return judge(*request, said)

    with ThreadPoolExecutor(16) as threads:
        wrong = [answer for answer in threads.map(ask, requests) if answer is not None]
    assert wrong == [], "\n".join(wrong) + served.err.text[-6000:]
    assert json.loads(exchange(served.port, GOOD).partition(b"\r\n\r\n")[2]) == before
    assert served.err.text == ""  # no traceback, no incident, not a word


CONFIGURATIONS = [
    ("name = ", "wrangler.toml"),
    ('name = "house"\nname = "twice"', "wrangler.toml"),
    (WRANGLER.replace('"house"', "3"), "name"),
    (WRANGLER.replace('"house"', '"no such: name"'), "name"),
    (WRANGLER.replace('"src/worker.py"', '"src/worker.js"'), "main"),
    (WRANGLER.replace("main =", "mian ="), "mian"),
    (WRANGLER.replace('class_name = "Room"', "class_name = 4"), r"bindings\[0\]\.class_name"),
    (WRANGLER.replace(', class_name = "Room"', ""), r"bindings\[0\]\.class_name"),
    (WRANGLER.replace('"ROOMS"', '"KV"'), "KV"),
    (WRANGLER.replace('"ROOMS"', '"not a name"'), r"bindings\[0\]\.name"),
    (WRANGLER.replace("new_classes", "new_clases"), "new_clases"),
    (WRANGLER.replace('["Room"]', '"Room"'), r"migrations\[0\]\.new_classes"),
    (WRANGLER + "[roost]\nhosts = -1", r"roost\.hosts"),
    (WRANGLER + '[roost]\ngrace_s = "long"', r"roost\.grace_s"),
    (WRANGLER + "[roost]\nslots = 3", r"roost\.slots"),
    (WRANGLER + '[dev]\nport = "8787"', r"dev\.port"),
    (WRANGLER + "[[d1_databases]]\nbinding = 'DB'", "d1_databases"),
    (WRANGLER + "[limits]\ncpu_ms = 0", r"limits\.cpu_ms"),
    (WRANGLER + "[vars]\nROOMS = 'x'", "ROOMS"),
    ("\0" + WRANGLER, "wrangler.toml"),
]


@pytest.mark.parametrize(("configuration", "key"), CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_a_bad_configuration_is_refused_in_one_line_with_file_and_key(
    forks, house, tmp_path, configuration, key
):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/worker.py").write_text(SCRIPT)
    (tmp_path / "wrangler.toml").write_text(configuration)
    arguments = ["serve", "--config", tmp_path / "wrangler.toml", "--port", "0"]
    done = forks.run(arguments, cwd=tmp_path, env=house.env, timeout=60)
    assert done.returncode == 1
    assert done.stdout == b""
    [line] = done.stderr.decode().splitlines()
    assert re.search(r"roost: .*wrangler\.toml", line)
    assert re.search(key, line)
