"""A proxy before an HTTP server that fails as networks and servers do, as told."""

import http.client
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Hand everything on.
PASS = "pass"
#: Close the connection without an answer; the server hears nothing.
DROP = "drop"
#: Hand on, then close the connection without the answer.
LOSE = "lose the answer"
#: Answer 500; the server hears nothing.
ERROR = "500"
#: Hand on, and answer so late that the client no longer waits.
SLOW = "slow"

KEPT = ("content-type", "content-length", "accept", "authorization")


class FaultyProxy:
    """Listens on this machine while it is open; ``mode`` says how it treats the next request.

    Args:
        port: Of the server on this machine.
        patience: Seconds after which the client gives a request up.
        own_port: Where to listen; 0 for any.
    """

    def __init__(self, port, *, patience, own_port=0):
        self.mode = PASS
        self.pause = 0.0
        self.treated = Counter()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                mode = proxy.mode
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.treated[mode] += 1
                if mode == DROP:
                    self.close_connection = True
                    return
                if mode == ERROR:
                    self.answer(500, b'{"error_code": "INTERNAL_ERROR", "message": "broken"}', "application/json")
                    return
                time.sleep(proxy.pause)
                status, content, kind = self.ask(body)
                if mode == SLOW:
                    time.sleep(patience + 0.5)
                if mode in (LOSE, SLOW):
                    self.close_connection = True
                    return
                self.answer(status, content, kind)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

            def ask(self, body):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() in KEPT}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                return answer.status, content, answer.getheader("Content-Type", "application/json")

            def answer(self, status, content, kind):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """A client that went away is what this is about."""

        self._server = Server(("127.0.0.1", own_port), Handler)
        self.port = self._server.server_port
        self.uri = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.mode = DROP  # connections that are open outlive the server
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_until_treated(self, mode, times):
        """Wait until so many requests were treated in this way."""
        end = time.monotonic() + 60
        while self.treated[mode] < times:
            assert time.monotonic() < end, f"{self.treated[mode]} of {times} requests: {mode}"
            time.sleep(0.01)
