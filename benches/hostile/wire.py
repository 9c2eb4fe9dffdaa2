"""What no HTTP library would send: slow heads, long heads, two lengths, paths out of the tree, injected headers, guessed keys.

    python3 wire.py PORT KEYED_PORT

Keys are guessed where keys are asked for, the rest is tried where they are not. Every attempt must end in a 4xx or a closed connection, and a plain request beside it must be answered."""

import os
import socket
import sys
import time

PORT, KEYED = int(sys.argv[1]), int(sys.argv[2])
GUESSES = int(os.environ.get("NEARCAST_HOSTILE_GUESSES", "1000000"))
FAILED = []


def connect(timeout=15, port=PORT):
    s = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def send(raw, timeout=15):
    """The whole of what comes back until the other side ends or is silent."""
    s, out = connect(timeout), b""
    try:
        s.sendall(raw)
        s.settimeout(2)
        while piece := s.recv(65536):
            out += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        s.close()
    return out


def statuses(answer):
    return [int(line.split(b" ")[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def expect(what, holds, seen=""):
    print(("held    " if holds else "FAILED  ") + what + (f": {seen}" if seen != "" else ""))
    if not holds:
        FAILED.append(what)


def well():
    began = time.time()
    answer = send(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    return statuses(answer) == [200] and time.time() - began < 5


def slow_heads():
    many = [connect() for _ in range(500)]
    for s in many:
        s.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ")
    answered, began, cut = True, time.time(), 0
    while time.time() - began < 25 and cut < len(many):
        answered = answered and well()
        time.sleep(1)
        for s in many:
            try:
                s.sendall(b"b")
            except OSError:
                pass
        cut = sum(1 for s in many if closed(s))
    expect("500 heads that never end: others are answered", answered)
    expect("and they are cut off", cut == len(many), f"{cut} of {len(many)}")
    for s in many:
        s.close()


def closed(s):
    s.setblocking(False)
    try:
        while s.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def long_heads():
    seen = statuses(send(b"GET /trending HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 1_000_000 + b"\r\n\r\n"))
    expect("a head of 1 MB", seen in ([431], []), seen)
    many = b"".join(b"x-%d: 1\r\n" % n for n in range(5_000))
    seen = statuses(send(b"GET /trending HTTP/1.1\r\nhost: x\r\n" + many + b"\r\n"))
    expect("5,000 headers", seen in ([431], [400], []), seen)
    seen = statuses(send(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"))
    expect("a path of 200 kB", seen in ([414], [431], [400], []), seen)


def smuggling():
    inner = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
    body = b'{"type":"message","user_id":"u","text":"x"}'
    attempts = {
        "length and chunked": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": b"content-length: 0\r\ncontent-length: %d\r\n\r\n" % len(inner) + inner,
        "a length with a sign": b"content-length: +%d\r\n\r\n" % len(body) + body + inner,
        "an unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
        "chunked before another": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
        "a space before the colon": b"content-length : %d\r\n\r\n" % len(body) + body + inner,
        "a folded header": b"x-a: b\r\n content-length: 3\r\n\r\n" + inner,
        "a bad chunk": b"transfer-encoding: chunked\r\n\r\nzz\r\n" + inner,
    }
    for what, rest in attempts.items():
        answer = send(b"POST /events HTTP/1.1\r\nhost: x\r\n" + rest)
        seen = statuses(answer)
        # One request is one answer; where the first was read whole, the second is a request of its own and says so by being whole.
        first = seen[0] if seen else 0
        expect(f"smuggling, {what}", first < 500 and len(seen) <= 2 and not (first == 400 and len(seen) > 1 and b"close" in answer[:400]), seen)


def paths():
    for path in ["/../../etc/passwd", "/page/../../../etc/passwd", "/page/%2e%2e/%2e%2e/etc/passwd", "/page/..%2f..%2fetc/passwd",
                 "/page/%2fetc%2fpasswd", "//etc/passwd", "/page/\\..\\..\\etc\\passwd", "/page/base.css%00.html", "/%c0%ae%c0%ae/etc/passwd"]:
        answer = send(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        expect(f"path {path}", statuses(answer) in ([404], [400]) and b"root:" not in answer, statuses(answer))


def injection():
    for value in ["a%0d%0ax-injected: 1", "a\r\n x-injected: 1", "%E5%98%8A%E5%98%8Dx-injected:1"]:
        for request in [f"GET /recommendations/{value} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
                        f"GET /trending HTTP/1.1\r\nhost: x\r\nx-request-id: {value}\r\nconnection: close\r\n\r\n"]:
            head = send(request.encode()).split(b"\r\n\r\n")[0]
            names = [line.split(b":")[0].strip().lower() for line in head.split(b"\r\n")[1:]]
            expect(f"a header in {value!r}", b"x-injected" not in names)


def guesses():
    s, counts = connect(60, KEYED), {}
    file, began = s.makefile("rb"), time.time()
    batch = 200
    for start in range(0, GUESSES, batch):
        s.sendall(b"".join(b"GET /trending HTTP/1.1\r\nhost: x\r\nauthorization: Bearer guess-%d\r\n\r\n" % n for n in range(start, start + batch)))
        for _ in range(batch):
            status, length = int(file.readline().split()[1]), 0
            while (line := file.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
            counts[status] = counts.get(status, 0) + 1
    took = time.time() - began
    known = set(counts) <= {401, 429}
    s.sendall(b"GET /trending HTTP/1.1\r\nhost: x\r\nauthorization: Bearer open sesame\r\nconnection: close\r\n\r\n")
    expect("and the right key is taken", file.readline().split()[1] == b"200")
    expect(f"{GUESSES} guessed keys", known, f"{counts}, {GUESSES / took:.0f}/s")


for attempt in (long_heads, smuggling, paths, injection, guesses, slow_heads):
    attempt()
    expect(f"after {attempt.__name__}: a plain request is answered", well())
sys.exit(1 if FAILED else 0)
