"""One real request to a server over its own protocol: exit code 0 if it was answered rightly, 1 with a line if not.

    probe.py kafka|mongodb|redis|milvus PORT
    probe.py bolt PORT            the password of the user neo4j comes in PROBE_PASSWORD

Only the standard library (and grpc for Milvus, from the environment milvus-lite is installed in), so that whether a
server is up can be told in tenths of a second. It must never change anything.
"""

import os
import socket
import struct
import sys

TIMEOUT = 10.0


class Refused(Exception):
    """The server answered, but not as one that is ready does."""


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def read(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise Refused("the connection was closed")
        data += part
    return data


def kafka(port):
    """Metadata, version 4, of no topic: a broker that serves lists itself among the brokers."""
    client = b"probe"
    body = struct.pack(">hhih", 3, 4, 1, len(client)) + client + struct.pack(">i?", 0, False)
    with connect(port) as sock:
        sock.sendall(struct.pack(">i", len(body)) + body)
        reply = read(sock, struct.unpack(">i", read(sock, 4))[0])
    # Correlation, throttle time, count of brokers.
    if struct.unpack(">iii", reply[:12])[2] < 1:
        raise Refused("no broker has registered yet")


def redis(port):
    with connect(port) as sock:
        sock.sendall(b"*1\r\n$4\r\nPING\r\n")
        reply = sock.recv(200)
    if not reply.startswith(b"+PONG"):
        raise Refused(reply.decode(errors="replace").strip())


def mongodb(port):
    """listDatabases: unlike a ping, it needs the PostgreSQL behind FerretDB."""
    def element(kind, name, value):
        return kind + name + b"\0" + value

    text = b"admin"
    elements = element(b"\x10", b"listDatabases", struct.pack("<i", 1))
    elements += element(b"\x02", b"$db", struct.pack("<i", len(text) + 1) + text + b"\0")
    document = struct.pack("<i", len(elements) + 5) + elements + b"\0"
    body = struct.pack("<i", 0) + b"\0" + document
    with connect(port) as sock:
        sock.sendall(struct.pack("<iiii", len(body) + 16, 1, 0, 2013) + body)
        reply = read(sock, struct.unpack("<i", read(sock, 4))[0] - 4)
    if element(b"\x01", b"ok", struct.pack("<d", 1.0)) not in reply:
        raise Refused("listDatabases failed")


def packed(value):
    """Bolt's PackStream, as far as it is needed: short strings, small whole numbers, small maps."""
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0x80 + len(data)]) if len(data) < 16 else bytes([0xD0, len(data)])) + data
    if isinstance(value, int):
        return struct.pack(">b", value)
    return bytes([0xA0 + len(value)]) + b"".join(packed(k) + packed(v) for k, v in value.items())


def bolt(port):
    """Signs in and runs a query."""
    password = os.environ["PROBE_PASSWORD"]
    with connect(port) as sock:
        sock.sendall(bytes.fromhex("6060B017 00010205 00000000 00000000 00000000"))
        if read(sock, 4) == b"\0\0\0\0":
            raise Refused("the server speaks neither Bolt 5.1 nor 5.2")
        messages = [
            b"\xb1\x01" + packed({"user_agent": "probe/1"}),
            b"\xb1\x6a" + packed({"scheme": "basic", "principal": "neo4j", "credentials": password}),
            b"\xb3\x10" + packed("RETURN 1") + packed({}) + packed({}),
            b"\xb1\x3f" + packed({"n": -1}),
        ]
        sock.sendall(b"".join(struct.pack(">H", len(m)) + m + b"\0\0" for m in messages))
        answered = 0
        while answered < len(messages):
            message = b""
            while size := struct.unpack(">H", read(sock, 2))[0]:
                message += read(sock, size)
            if not message:
                continue
            if message[1] == 0x7F:
                raise Refused(message[2:].decode(errors="replace"))
            # A record comes before the success that ends its query.
            answered += message[1] == 0x70


def milvus(port):
    """ShowCollections, which reads the catalogue."""
    import grpc  # pylint: disable=import-outside-toplevel

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = channel.unary_unary("/milvus.proto.milvus.MilvusService/ShowCollections")(b"", timeout=TIMEOUT)
    # Field 1 is the status, and its field 1 a code that is left out where it is 0.
    if reply[:1] != b"\x0a" or (reply[1] > 0 and reply[2] == 0x08):
        raise Refused("ShowCollections failed")


def main():
    try:
        globals()[sys.argv[1]](int(sys.argv[2]))
    except Exception as error:  # whatever went wrong, it did not answer
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
