from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.errors import CorruptData
from narrows.runtime.manifest import Tensor
from narrows.runtime.reply import Reply, best, pack, unpack

SCORES = Tensor(name="scores", shape=(1000,), dtype="float32")
WIDE = Tensor(name="scores", shape=(100_000,), dtype="float32")
PAIR = (
    Tensor(name="a", shape=(2, 3), dtype="float32"),
    Tensor(name="b", shape=(), dtype="int64"),
)


def test_top_five_of_a_thousand_is_34_bytes() -> None:
    scores = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    reply = Reply(service_s=0.0123, top=best(scores, 5))
    payload = pack(reply)
    assert len(payload) == 34
    found = unpack(payload, outputs=(SCORES,), top=5)
    assert found == reply
    assert [place for place, _ in found.top] == np.argsort(-scores)[:5].tolist()


def test_classes_above_two_bytes_survive() -> None:
    reply = Reply(service_s=0.0, top=((99_999, 1.5), (3, 0.5)))
    assert unpack(pack(reply), outputs=(WIDE,), top=2) == reply


def test_more_asked_than_there_are_gives_all() -> None:
    scores = np.float32([0.5, 2.0, -1.0])
    three = Tensor(name="scores", shape=(3,), dtype="float32")
    payload = pack(Reply(service_s=0.0, top=best(scores, 5)))
    assert unpack(payload, outputs=(three,), top=5).top == ((1, 2.0), (0, 0.5), (2, -1.0))


def test_whole_outputs_survive() -> None:
    arrays = (np.arange(6, dtype=np.float32).reshape(2, 3), np.array(-7, np.int64))
    found = unpack(pack(Reply(service_s=1.0, outputs=arrays)), outputs=PAIR, top=0)
    assert found.outputs is not None
    assert found.service_s == 1.0
    for array, other in zip(arrays, found.outputs, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype


def test_equal_scores_go_by_class() -> None:
    assert best(np.float32([1, 2, 2, 0]), 3) == ((1, 2.0), (2, 2.0), (0, 1.0))


@given(st.binary(max_size=80), st.integers(0, 6))
def test_any_bytes_are_a_reply_of_the_declared_shape_or_corrupt(data: bytes, top: int) -> None:
    outputs = (Tensor(name="s", shape=(10,), dtype="float32"),)
    try:
        reply = unpack(data, outputs=outputs, top=top)
    except CorruptData:
        return
    if top:
        assert len(reply.top) == top
        assert all(0 <= place < 10 for place, _ in reply.top)
    else:
        assert reply.outputs is not None
        assert reply.outputs[0].shape == (10,)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", bytes(4), bytes(9)])
def test_short_replies_are_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptData):
        unpack(payload, outputs=(SCORES,), top=5)
