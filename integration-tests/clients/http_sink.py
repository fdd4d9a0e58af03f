"""An HTTP server that records what it is sent.

  http_sink.py PORT [--status CODE[,CODE]...] [--retry-after SECONDS]

The statuses are given out one after the other; the last one stays.
"""

import argparse
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common import emit, encode, ready


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--status", default="200")
    parser.add_argument("--retry-after")
    arguments = parser.parse_args()
    statuses = [int(code) for code in arguments.status.split(",")]
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def body(self):
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                whole = b""
                while True:
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    chunk = self.rfile.read(size)
                    self.rfile.readline()
                    if size == 0:
                        return whole
                    whole += chunk
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self):
            body = self.body()
            with lock:
                status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
                emit(
                    address=self.path,
                    method=self.command,
                    status=status,
                    payload=encode(body),
                    headers=[list(pair) for pair in self.headers.items()],
                )
            self.send_response(status)
            if arguments.retry_after and status in (429, 503):
                self.send_header("Retry-After", arguments.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    ready()
    server.serve_forever()


main()
