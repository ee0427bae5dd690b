"""An HTTP proxy on loopback that forwards requests, and sometimes fails like object stores."""

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_HEADERS = ("connection", "transfer-encoding", "keep-alive")


class FaultyProxy:
    """A proxy at `url`; `faults` is the share of requests for each fault (error, slow, cut), `done` counts faults."""

    def __init__(self, port):
        self.faults = {}
        self.down_after = None  # number of requests, after which all fail
        self.done = Counter()
        self._rng = random.Random(8)
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                fault = proxy.choose()
                if fault == "error":
                    self.send_response(500)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if fault == "slow":
                    time.sleep(1.5)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                data = response.read()
                proxy.done["bytes"] += len(data)
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in HOP_HEADERS and (name.lower() != "content-length"):
                        self.send_header(name, value)
                length = response.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                if fault == "cut":
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                    self.connection.close()
                    return
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = respond  # noqa: N815

            def log_message(self, *_):
                """Be silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def choose(self):
        """Return the fault of the next request, or None."""
        with self._lock:
            self.done["requests"] += 1
            if self.down_after is not None and self.done["requests"] > self.down_after:
                self.done["error"] += 1
                return "error"
            draw = self._rng.random()
            for fault, share in self.faults.items():
                draw -= share
                if draw < 0:
                    self.done[fault] += 1
                    return fault
            return None

    def close(self):
        self._server.shutdown()
        self._server.server_close()
