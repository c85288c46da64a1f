"""Trained weights of timm without a connection."""

import http.server
import threading
import time
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from narrows.errors import ModelError
from narrows.zoo import libraries


class Mute(http.server.BaseHTTPRequestHandler):
    """Knows nothing, but answers."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mute)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()
    thread.join()


def test_without_a_connection_it_fails_at_once_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    def slept(_: float) -> None:
        pytest.fail("it asked a second time")

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "sleep", slept)
    message = "weights are not on this machine and .* random weights .*timm:resnet18.pretrained=0"
    with pytest.raises(ModelError, match=message):
        libraries.timm_network("resnet18", size=None, pretrained=True, seed=0)
    assert not constants.HF_HUB_OFFLINE


def test_any_answer_is_a_connection(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    assert libraries._is_reached()
