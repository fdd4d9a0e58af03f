#!/usr/bin/env python3
"""A device beside clients that flood: how long its messages take.

  flood.py TRANSLOAD [--floods N] [--qos 0|1] [--messages N] [--guarantee NAME]

Starts the gateway with a listener for devices and routes from them back to them. A device publishes
with QoS 1 every 10 ms, and another reads what it says; times are measured to the PUBACK and to the
reader, first alone and then while others publish as fast as their connections take it (QoS 1: 100 at
once). The clients are written from MQTT 3.1.1 here, since a library would be slower than the gateway.
"""

import argparse
import multiprocessing
import pathlib
import socket
import struct
import subprocess
import tempfile
import time

BURST = 100
PAYLOAD = bytes(64)
INTERVAL_S = 0.01


def text(value):
    return struct.pack("!H", len(value)) + value


def packet(first, body):
    length, encoded = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes([digit | (128 if length else 0)])
        if not length:
            return bytes([first]) + encoded + body


def publish(topic, qos, number):
    identifier = struct.pack("!H", number) if qos else b""
    return packet(0x30 | qos << 1, text(topic) + identifier + PAYLOAD)


class Client:
    def __init__(self, port, name):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(packet(0x10, text(b"MQTT") + b"\x04\x02\x00\x3c" + text(name)))
        assert self.read()[1] == b"\x00\x00", "the gateway refuses the connection"

    def read(self):
        first = self.file.read(1)
        assert first, "the gateway has closed the connection"
        length, shift = 0, 0
        while True:
            digit = self.file.read(1)[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return first[0], self.file.read(length)

    def subscribe(self, topic):
        self.socket.sendall(packet(0x82, b"\x00\x01" + text(topic) + b"\x00"))
        assert self.read()[0] == 0x90, "the gateway does not answer the subscription"


def flood(port, number, qos, sent):
    client = Client(port, b"flood%d" % number)
    burst = b"".join(publish(b"flood/%d" % number, qos, n + 1) for n in range(BURST))
    while True:
        client.socket.sendall(burst)
        if qos:
            client.file.read(4 * BURST)
        sent.value += BURST


def measure(port, count):
    device, reader = Client(port, b"device"), Client(port, b"reader")
    reader.subscribe(b"back/x")
    acknowledged, arrived = [], []
    for number in range(count):
        begin = time.perf_counter()
        device.socket.sendall(publish(b"device/x", 1, number % 65535 + 1))
        device.read()
        acknowledged.append(time.perf_counter() - begin)
        reader.read()
        arrived.append(time.perf_counter() - begin)
        time.sleep(max(0.0, INTERVAL_S - (time.perf_counter() - begin)))
    device.socket.close()
    reader.socket.close()
    return acknowledged, arrived


def show(what, times):
    times = sorted(times)
    shares = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
    at = [times[min(len(times) - 1, int(share * len(times)))] * 1000 for _, share in shares]
    line = "  ".join(f"{name} {ms:6.2f} ms" for (name, _), ms in zip(shares, at))
    print(f"{what:24} {line}  ({len(times)} messages)", flush=True)


def gateway(binary, folder, port, guarantee):
    rules = folder / "adapters.toml"
    routes = "".join(
        f'[[route]]\nname = "{name}"\nfrom = "devices"\nmatch = "{name}/#"\n'
        f'guarantee = "{guarantee}"\nto = {{ adapter = "devices", topic = "{to}" }}\n\n'
        for name, to in [("device", "back/x"), ("flood", "void/x")]
    )
    rules.write_text(
        f'[gateway]\ndata_dir = "{folder}/data"\n\n[adapters.devices]\nkind = "mqtt"\n'
        f'listen = "127.0.0.1:{port}"\n\n{routes}'
    )
    log = open(folder / "log", "w")
    return subprocess.Popen(
        [binary, "--config", str(rules), "run"], cwd=folder, stdout=log, stderr=log
    )


def until_open(port, process, folder):
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            ended = process.poll() is not None or time.monotonic() > deadline
            assert not ended, (folder / "log").read_text()
            time.sleep(0.05)


def run(arguments, port):
    alone = measure(port, arguments.messages)
    show("alone, to the PUBACK", alone[0])
    show("alone, to the reader", alone[1])
    sent = [multiprocessing.Value("Q", 0) for _ in range(arguments.floods)]
    floods = [
        multiprocessing.Process(target=flood, args=(port, n, arguments.qos, sent[n]), daemon=True)
        for n in range(arguments.floods)
    ]
    for process in floods:
        process.start()
    while any(counter.value < 1000 for counter in sent):
        time.sleep(0.01)
    before, begin = sum(counter.value for counter in sent), time.monotonic()
    beside = measure(port, arguments.messages)
    rate = (sum(counter.value for counter in sent) - before) / (time.monotonic() - begin)
    assert all(process.is_alive() for process in floods), "a flood was ended"
    for process in floods:
        process.terminate()
    show("beside it, to the PUBACK", beside[0])
    show("beside it, to the reader", beside[1])
    print(f"flood: {rate:,.0f} messages/s of QoS {arguments.qos}, {arguments.floods} connections")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("transload")
    parser.add_argument("--floods", type=int, default=1)
    parser.add_argument("--qos", type=int, choices=[0, 1], default=0)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--guarantee", default="stored")
    arguments = parser.parse_args()
    binary = str(pathlib.Path(arguments.transload).resolve())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process = gateway(binary, folder, port, arguments.guarantee)
        try:
            until_open(port, process, folder)
            run(arguments, port)
        finally:
            process.kill()
            process.wait()


main()
