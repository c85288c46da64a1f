"""JSON and back is exact; anything unknown, missing or of another type is named."""

from __future__ import annotations

import enum
import errno
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows import config
from narrows.errors import ConfigError, InputError, StorageError


class Route(enum.Enum):
    LOCAL = "local"
    SPLIT = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    name: ClassVar[str] = "uniform"
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    name: ClassVar[str] = "affine"
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    values: tuple[float, ...]
    pair: tuple[int, str]
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    FORMAT: ClassVar[int] = 3
    name: str
    inner: Inner
    maybe: Inner | None
    quantizer: Uniform | Affine
    by_name: Mapping[str, tuple[Inner, ...]]
    mode: Literal["slow", "fast"]
    flag: bool
    path: Path
    bits: bytes
    either: int | str
    table: dict[str, float]


numbers = st.floats(width=64) | st.integers(-(10**6), 10**6).map(float)
inners = st.builds(
    Inner,
    values=st.lists(numbers).map(tuple),
    pair=st.tuples(st.integers(), st.text()),
    route=st.sampled_from(Route),
)
outers = st.builds(
    Outer,
    name=st.text(),
    inner=inners,
    maybe=st.none() | inners,
    quantizer=st.builds(Uniform, step=numbers) | st.builds(Affine, step=numbers),
    by_name=st.dictionaries(st.text(), st.lists(inners, max_size=2).map(tuple), max_size=2),
    mode=st.sampled_from(["slow", "fast"]),
    flag=st.booleans(),
    path=st.sampled_from([Path("a/b"), Path("/c")]),
    bits=st.binary(),
    either=st.integers() | st.text(),
    table=st.dictionaries(st.text(), numbers),
)


@given(outers)
def test_json_and_back_is_the_same_value(value: Outer) -> None:
    text = json.dumps(config.to_dict(value), allow_nan=False)
    again = config.from_dict(Outer, json.loads(text))
    assert repr(again) == repr(value)  # repr, because nan is not equal to itself
    assert type(again.quantizer) is type(value.quantizer)


def outer() -> Outer:
    inner = Inner(values=(1.0, math.inf), pair=(1, "x"), route=Route.SPLIT)
    return Outer(
        name="o",
        inner=inner,
        maybe=None,
        quantizer=Affine(step=0.5),
        by_name={"k": (inner,)},
        mode="slow",
        flag=True,
        path=Path("p"),
        bits=b"\x00\xff",
        either="x",
        table={},
    )


def set_at(data: dict, path: str, value: object) -> dict:
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[int(key)] if key.isdecimal() else place[key]
    place[int(last) if last.isdecimal() else last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("extra", 1, "unknown key 'extra'"),
        ("inner.valeus", 1, "Outer.inner: unknown key 'valeus'"),
        ("inner.values.0", "1", "Outer.inner.values[0]: expected a number, found '1'"),
        ("inner.values.0", True, "expected a number"),
        ("inner.values", 3, "expected an array"),
        ("inner.pair", [1], "an array of 2"),
        ("inner.pair.0", 1.5, "expected a whole number"),
        ("inner.route", "cloud", "one of 'local', 'split'"),
        ("maybe", {"values": []}, "missing key 'pair'; missing key 'route'"),
        ("quantizer.name", "cubic", "'cubic'"),
        ("by_name", [], "expected an object"),
        ("by_name.k.0.pair.1", 5, "Outer.by_name.k[0].pair[1]: expected text"),
        ("mode", "warp", "one of 'slow', 'fast'"),
        ("mode", ["slow"], "one of 'slow', 'fast'"),
        ("inner.route", ["split"], "one of 'local', 'split'"),
        ("flag", 1, "true or false"),
        ("bits", "?", "base64"),
        ("either", None, "expected"),
        ("inner", None, "an object (Inner)"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(path: str, value: object, words: str) -> None:
    data = set_at(config.to_dict(outer()), path, value)
    with pytest.raises(ConfigError, match=re.escape(words)):
        config.from_dict(Outer, data)


def test_a_missing_key_is_named_even_where_the_field_has_a_default() -> None:
    @dataclass(frozen=True)
    class Tuned:
        step: float = 1.0

    with pytest.raises(ConfigError, match="missing key 'step'"):
        config.from_dict(Tuned, {})


def test_a_class_s_own_check_tells_its_place() -> None:
    with pytest.raises(ConfigError, match=r"\[1\].*expected positive"):
        config.from_dict(tuple[Checked, ...], [{"step": 1.0}, {"step": -1.0}])


@dataclass(frozen=True)
class Checked:
    step: float

    def __post_init__(self) -> None:
        if self.step <= 0:
            msg = f"step is {self.step}: expected positive"
            raise ConfigError(msg)


def test_numpy_numbers_are_written_as_plain_ones() -> None:
    written = config.to_dict({"a": np.float32(0.5), "b": np.int64(3), "c": (np.float64("nan"),)})
    assert json.dumps(written) == '{"a": 0.5, "b": 3, "c": ["nan"]}'


@pytest.mark.parametrize("value", [{1: 2}, {"x": object()}, {1, 2}, np.zeros(2)])
def test_what_json_has_no_place_for_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        config.to_dict(value)


def test_a_file_carries_its_format_and_comes_back(tmp_path: Path) -> None:
    config.write_json(tmp_path / "o.json", outer())
    assert json.loads((tmp_path / "o.json").read_text())["format"] == 3
    assert config.read_json(tmp_path / "o.json", Outer) == outer()


@pytest.mark.parametrize("format_number", [2, None, "3", True])
def test_a_file_of_another_format_is_refused(tmp_path: Path, format_number: object) -> None:
    data = {"format": format_number} | config.to_dict(outer())
    (tmp_path / "o.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="has format"):
        config.read_json(tmp_path / "o.json", Outer)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"3"])
def test_what_is_not_such_a_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "o.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"o\.json"):
        config.read_json(tmp_path / "o.json", Outer)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*no\.json"):
        config.read_json(tmp_path / "no.json", Outer)


def test_a_file_is_replaced_whole_and_readable_by_all(tmp_path: Path) -> None:
    config.write_atomic(tmp_path / "f", "old")
    config.write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    umask_free = 0o444
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) & umask_free


def test_a_full_disk_is_said_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_atomic(tmp_path / "f", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full: free some") as caught:
        config.write_atomic(tmp_path / "f", "new")
    assert caught.value.errno == errno.ENOSPC
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("f", "old")]


def test_a_missing_folder_is_said() -> None:
    with pytest.raises(StorageError, match="its folder does not exist"):
        config.write_atomic("/nowhere/at/all/f", "x")


def test_a_folder_in_the_way_is_said_and_left(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(StorageError, match="folder of that name"):
        config.write_atomic(tmp_path / "f", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
