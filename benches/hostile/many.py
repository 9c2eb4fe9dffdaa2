"""Very many requests: cases that schemathesis makes from the program's own OpenAPI document, taken apart and put together anew.

    python3 many.py PORT REQUESTS [CASES]

Schemathesis makes so many CASES of each operation (400 where it is not said), right and wrong ones; that takes it a hundredth of a second
each. A request then takes its path from one of them, its query from others, headers and body from others again, so that a million are sent in
minutes. Each answer is held against the document: its status, its type, its body by the schema. Fails where one does not match, or is a
5xx other than 503. Runs in the environment of schemathesis (see run), on two processes."""

import json
import multiprocessing
import random
import socket
import sys
import urllib.parse

import hypothesis
import jsonschema_rs
import requests
import schemathesis
from schemathesis import GenerationMode

PORT, REQUESTS = int(sys.argv[1]), int(sys.argv[2])
CASES = int(sys.argv[3]) if len(sys.argv) > 3 else 400
PROCESSES, AT_ONCE = 2, 16
BASE = f"http://127.0.0.1:{PORT}"
# What the connection itself is made of is wire.py's to be hostile with.
OWN = {"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "cookie", "accept-encoding", "te", "trailer"}


def cases(operation):
    """Prepared requests of an operation."""
    made = []
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        try:
            strategy = operation.as_strategy(generation_mode=mode)

            @hypothesis.settings(max_examples=CASES, database=None, deadline=None, phases=[hypothesis.Phase.generate],
                                 suppress_health_check=list(hypothesis.HealthCheck))
            @hypothesis.seed(len(made))
            @hypothesis.given(strategy)
            def make(case):
                try:
                    made.append(requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare())
                except (requests.exceptions.RequestException, ValueError):
                    pass  # The client's library will not send it; wire.py sends such things.

            make()
        except hypothesis.errors.Unsatisfiable:
            pass  # Nothing about it can be wrong, or right.
    return made


def parts(made):
    """What requests of an operation are put together from."""
    paths, pairs, headers, bodies = [], [], [], []
    for r in made:
        url = urllib.parse.urlsplit(r.url)
        paths.append(url.path)
        pairs += [p for p in url.query.split("&") if p]
        headers.append([(k, v) for k, v in r.headers.items() if k.lower() not in OWN])
        body = r.body if isinstance(r.body, bytes) else (r.body or "").encode()
        bodies.append(body)
    return sorted(set(paths)), sorted(set(pairs)) or [""], headers, bodies


def put_together(rng, method, made):
    paths, pairs, headers, bodies = made
    query = "&".join(rng.choice(pairs) for _ in range(rng.choice((0, 1, 1, 2, 3, 5))))
    target = rng.choice(paths) + ("?" + query if query else "")
    body = rng.choice(bodies)
    if body and rng.random() < 0.2:  # A byte changed, the end cut off.
        at = rng.randrange(len(body))
        body = body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :] if rng.random() < 0.5 else body[:at]
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1"]
    for name, value in rng.choice(headers):
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        lines.append(f"{name}: {value}")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body


class Checker:
    """The document's word on answers."""

    def __init__(self, document):
        self.document, self.kept = document, {}

    def wrong(self, path, method, status, kind, body):
        """What does not match, or nothing."""
        if status >= 500 and status != 503:
            return "a 5xx"
        responses = self.document["paths"][path][method]["responses"]
        said = responses.get(str(status)) or responses.get("default")
        if said is None:
            return f"{status} is not in the document"
        if "$ref" in said:
            said = self.document["components"]["responses"][said["$ref"].rsplit("/", 1)[1]]
        content = said.get("content")
        if not content or not body:
            return None
        if kind not in content:
            return f"{kind} is not in the document"
        if not kind.endswith("json"):
            return None
        schema = content[kind].get("schema")
        try:
            value = json.loads(body)
        except ValueError:
            return "no JSON"
        if schema is None:
            return None
        key = (path, method, status, kind)
        if key not in self.kept:
            self.kept[key] = jsonschema_rs.validator_for({**schema, "components": self.document.get("components", {})})
        error = next(iter(self.kept[key].iter_errors(value)), None)
        return None if error is None else f"the schema: {error.message[:200]}"


def answer(stream):
    """Status, type, body, and whether the connection ends."""
    first = stream.readline()
    if not first:
        raise ConnectionError("ended")
    status, length, kind, last, chunked = int(first.split(b" ")[1]), 0, "", False, False
    while (line := stream.readline().rstrip(b"\r\n")) != b"":
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip().lower()
        if name == b"content-length":
            length = int(value)
        elif name == b"content-type":
            kind = value.split(b";")[0].decode()
        elif name == b"connection":
            last = value == b"close"
        elif name == b"transfer-encoding":
            chunked = True
    if chunked:
        body = b""
        while (size := int(stream.readline(), 16)) > 0:
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(length) if status not in (204, 304) else b""
    return status, kind, body, last


def send(number, share, pool, document, told):
    rng, checker = random.Random(number), Checker(document)
    seen, wrong, broken, sent = {}, {}, 0, 0
    while sent < share:
        with socket.create_connection(("127.0.0.1", PORT), timeout=30) as s:
            stream = s.makefile("rb", 1 << 16)
            try:
                while sent < share:
                    some = [rng.choice(pool) for _ in range(AT_ONCE)]
                    raw = [put_together(rng, method, made) for _, method, made in some]
                    s.sendall(b"".join(raw))
                    if number == 0 and sent // 20_000 != (sent - AT_ONCE) // 20_000:
                        print(f"\r{sent * PROCESSES} sent", end="", file=sys.stderr, flush=True)
                    for (path, method, _), request in zip(some, raw):
                        status, kind, body, last = answer(stream)
                        sent += 1
                        seen[status] = seen.get(status, 0) + 1
                        if bad := checker.wrong(path, method.lower(), status, kind, body):
                            wrong.setdefault(f"{method} {path}: {bad}", request[:300])
                        if last:
                            raise ConnectionError("the last one")
            except (ConnectionError, TimeoutError) as e:
                broken += not isinstance(e, ConnectionError)
    told.put((seen, wrong, broken, sent))


def main():
    schema = schemathesis.openapi.from_url(BASE + "/openapi.json")
    document = requests.get(BASE + "/openapi.json", timeout=30).json()
    pool, total = [], 0
    for result in schema.get_all_operations():
        operation = result.ok()
        made = cases(operation)
        total += len(made)
        if made:
            pool.append((operation.path, operation.method.upper(), parts(made)))
    print(f"{total} cases of {len(pool)} operations, {REQUESTS} requests of them")
    told = multiprocessing.Queue()
    share = -(-REQUESTS // PROCESSES)
    senders = [multiprocessing.Process(target=send, args=(n, share, pool, document, told)) for n in range(PROCESSES)]
    for sender in senders:
        sender.start()
    seen, wrong, broken, sent = {}, {}, 0, 0
    for _ in senders:
        s, w, b, n = told.get()
        seen = {k: seen.get(k, 0) + s.get(k, 0) for k in seen.keys() | s.keys()}
        wrong, broken, sent = {**wrong, **w}, broken + b, sent + n
    print(f"\n{sent} requests: {dict(sorted(seen.items()))}, {broken} not answered in time")
    for what, request in sorted(wrong.items()):
        print(f"FAILED  {what}\n        {request!r}")
    sys.exit(bool(wrong or broken))


if __name__ == "__main__":
    main()
