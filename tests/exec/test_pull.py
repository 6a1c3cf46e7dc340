"""A pull that breaks off says so; only an engine that does not answer is gone."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rain.exec.containers import DockerEngine
from rain.exec.engine import EngineGone


class Daemon(BaseHTTPRequestHandler):
    """Speaks as much of an engine as a pull needs, and hangs up in the middle of it."""

    protocol_version = "HTTP/1.1"
    dies = False
    """With the pull: nothing is answered afterwards."""

    def do_GET(self) -> None:
        if self.server_is_gone():
            self.close_connection = True
            return
        words = b'{"ApiVersion": "1.43"}' if self.path.endswith("/version") else b"OK"
        self.send_response(200)
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        line = b'{"status": "Pulling"}\r\n'
        self.wfile.write(b"%x\r\n%s\r\n20\r\n{" % (len(line), line))
        self.close_connection = True
        type(self).has_pulled = True

    has_pulled = False

    def server_is_gone(self) -> bool:
        return self.dies and self.has_pulled

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Daemon]]:
    class Fresh(Daemon):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    yield Fresh
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.usefixtures("daemon")
def test_a_pull_that_breaks_off_is_a_reason() -> None:
    engine = DockerEngine("nodeaaaa")
    assert engine.pull("attic/tool:1").startswith("the pull broke off: ")
    engine.ping()
    engine.close()


def test_an_engine_that_dies_with_a_pull_is_gone(daemon: type[Daemon]) -> None:
    daemon.dies = True
    engine = DockerEngine("nodeaaaa")
    with pytest.raises(EngineGone):
        engine.pull("attic/tool:1")
    engine.close()
