"""A model server that serves one request at a time: `slow_model.py PORT MILLISECONDS LOG [GATE]`.

Started by fe as a local replica; with GATE it does not listen before there is a file of that name. Every request is a
line in LOG when its work begins: pid, body. A second request that comes while one is being served gets a line
`PID overlap`: nobody should be sent one.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, MILLISECONDS, LOG = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
busy = threading.Lock()


def note(text: str) -> None:
    fd = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{os.getpid()} {text}\n".encode())
    os.close(fd)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self._answer(b"ready")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not busy.acquire(blocking=False):
            note("overlap")
            busy.acquire()
        try:
            note(body.decode())
            time.sleep(MILLISECONDS / 1000)
        finally:
            busy.release()
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


while len(sys.argv) > 4 and not os.path.exists(sys.argv[4]):
    time.sleep(0.01)
Server(("127.0.0.1", PORT), Handler).serve_forever()
