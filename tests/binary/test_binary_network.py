"""A binary network is checked when it is made, comes back from its file, and needs no torch."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from narrows.binary import (
    BinaryNetwork,
    FromBytes,
    FromSigns,
    Layer,
    Scores,
    Signs,
    Window,
    load_binary,
    pack_signs,
    save_binary,
)
from narrows.errors import InputError, ModelError, NarrowsError

HEAD = "narrows.binary"
# Whatever a damaged file makes of itself must not take long to run.
SMALL = np.zeros((1, 3, 6, 6), np.uint8)


def network(seed: int = 0) -> BinaryNetwork:
    random = np.random.default_rng(seed)

    def bits(*shape: int) -> Any:
        return pack_signs(random.normal(size=shape))

    def signs(count: int, pool: Window | None = None) -> Signs:
        threshold = random.integers(-9, 9, count).astype(np.int32)
        return Signs(threshold=threshold, flip=random.random(count) < 0.5, pool=pool)

    first = FromBytes(
        weight=bits(40, 27), channels=3, window=Window(kernel=(3, 3), padding=(1, 1)), fill=128
    )
    second = FromSigns(
        weight=bits(70, 3, 3, 40), channels=40, window=Window(kernel=(3, 3), padding=(1, 1))
    )
    last = FromSigns(weight=bits(10, 3, 3, 70), channels=70, window=Window(kernel=(3, 3)))
    factors = random.normal(size=(2, 10)).astype(np.float32)
    return BinaryNetwork(
        input_shape=(3, 6, 6),
        layers=(
            Layer(product=first, readout=signs(40)),
            Layer(product=second, readout=signs(70, Window(kernel=(2, 2), stride=(2, 2)))),
            Layer(product=last, readout=Scores(gain=factors[0], offset=factors[1])),
        ),
    )


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 6, 6)).astype(np.uint8)


def test_both_kernels_answer_the_same_bits_whole_and_one_by_one() -> None:
    made, x = network(), samples(5)
    runs = [made.ready(name) for name in ("compiled", "numpy")]
    first, second = (run(x) for run in runs)
    assert first.shape == (5, 10)
    assert (first == second).all()
    assert (np.concatenate([runs[0](x[i : i + 1]) for i in range(5)]) == first).all()
    for one, other in zip(*(run.each(x) for run in runs), strict=True):
        assert (one == other).all()
    assert runs[0](x[:0]).shape == (0, 10)
    many = np.tile(x, (30, 1, 1, 1))  # in parts
    assert (runs[0](many) == np.tile(first, (30, 1))).all()


def test_a_file_gives_the_network_back(tmp_path: Path) -> None:
    made, x = network(), samples(3)
    save_binary(made, tmp_path / "net")
    again = load_binary(tmp_path / "net")
    assert (again.ready("numpy")(x) == made.ready("numpy")(x)).all()
    save_binary(again, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()
    weights = 40 * 8 + 70 * 9 * 8 + 10 * 9 * 16
    assert made.size_bytes == weights + 110 * 5 + 10 * 8


def test_it_is_loaded_and_run_without_torch_and_numpy_needs_no_numba(tmp_path: Path) -> None:
    save_binary(network(), tmp_path / "net")
    code = (
        "import sys, numpy as np; from narrows.binary import load_binary;"
        f"load_binary({str(tmp_path / 'net')!r}).ready('numpy')(np.zeros((1, 3, 6, 6), np.uint8));"
        "print([name for name in ('torch', 'numba', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_inputs_of_another_kind_are_refused() -> None:
    run = network().ready("numpy")
    for wrong in (samples(1).astype(np.float32), samples(1)[0], samples(1)[:, :, :5]):
        with pytest.raises(InputError, match=r"expected uint8 \(n, 3, 6, 6\)"):
            run(wrong)  # type: ignore[arg-type]


def test_layers_that_do_not_follow_one_another_are_refused() -> None:
    made = network()
    first, second, last = made.layers
    for layers, words in (
        ((), "no layers"),
        ((first, second), "only the last answers scores"),
        ((second, last), "only the first reads bytes"),
        ((first, last, last), "only the last"),
        ((first, last), "reads 70 channels of 40"),
        (
            (first, replace(second, readout=replace(second.readout, pool=None)), last),
            "expected one",
        ),  # type: ignore[type-var]
    ):
        with pytest.raises(ModelError, match=words):
            replace(made, layers=layers)
    with pytest.raises(ModelError, match="a product of 70 outputs with 40 to read"):
        replace(second, readout=first.readout)
    for shape, words in (((3, 6), "expected"), ((3, 0, 6), "expected"), ((2, 6, 6), "channels")):
        with pytest.raises(ModelError, match=words):
            replace(made, input_shape=shape)


def rewritten(path: Path, change: Callable[[Any, dict[str, np.ndarray]], None]) -> Path:
    with safetensors.safe_open(path, framework="np") as file:
        head = json.loads(file.metadata()[HEAD])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(head, tensors)
    save_file(tensors, path, {HEAD: json.dumps(head)})
    return path


CHANGES: dict[str, Callable[[Any, dict[str, np.ndarray]], None]] = {
    "another format": lambda head, _: head.update(format=2),
    "a key more": lambda head, _: head.update(more=1),
    "no layers": lambda head, _: head.update(layers=[]),
    "a window beyond the weight": lambda head, _: head["layers"][1]["window"].update(kernel=[4, 4]),
    "a padding beyond the window": lambda head, _: head["layers"][1]["window"].update(
        padding=[9, 9]
    ),
    "a stride beyond all": lambda head, _: head["layers"][1]["window"].update(stride=[1, 10**30]),
    "more channels": lambda head, _: head["layers"][2].update(channels=71),
    "bytes in the middle": lambda head, _: head["layers"][1].update(reads="bytes"),
    "a text for a number": lambda head, _: head["layers"][0].update(fill="128"),
    "an array less": lambda _, tensors: tensors.pop("0.flip"),
    "an array more": lambda _, tensors: tensors.update(extra=np.zeros(1)),
    "a short array": lambda _, tensors: tensors.update({"1.flip": tensors["1.flip"][:3]}),
    "another type": lambda _, tensors: tensors.update({"2.gain": tensors["2.gain"].astype(float)}),
    "bits in the filling": lambda _, tensors: tensors.update({"0.weight": ~tensors["0.weight"]}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_does_not_hold_together_is_refused(tmp_path: Path, name: str) -> None:
    save_binary(network(), tmp_path / "net")
    with pytest.raises(ModelError, match="holds no binary network"):
        load_binary(rewritten(tmp_path / "net", CHANGES[name]))


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_arrays_of_types_that_numpy_has_not_are_refused(tmp_path: Path, kind: str) -> None:
    save_binary(network(), tmp_path / "net")
    content = (tmp_path / "net").read_bytes()
    length = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    size = 2 if kind == "BF16" else 1
    head["extra"] = {"dtype": kind, "shape": [3], "data_offsets": [len(data), len(data) + 3 * size]}
    text = json.dumps(head).encode()
    changed = len(text).to_bytes(8, "little") + text + data + bytes(3 * size)
    (tmp_path / "net").write_bytes(changed)
    with pytest.raises(
        ModelError, match=f"array 'extra' is of {kind}, which no binary network has"
    ):
        load_binary(tmp_path / "net")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no binary network at"):
        load_binary(tmp_path / "net")
    save_file({"a": np.zeros(1)}, tmp_path / "other")
    with pytest.raises(ModelError, match="holds no binary network"):
        load_binary(tmp_path / "other")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_another_network(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("net") / "net"
    save_binary(network(), path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, min(len(content) - 1, 2500)))  # the header, mostly
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(NarrowsError):
        found = load_binary(path)
        if found.input_shape == (3, 6, 6):
            assert found.ready("compiled")(SMALL).shape == (1, 10)
