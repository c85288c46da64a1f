"""Products of bits against those of floats and 8-bit integers, in the same rounds, on one thread.

    python benchmarks/binary_kernel.py [--parts product network convolution] [--session-s 4]
        [--out FILE.json]

product: a square matrix of +1 and −1 with a vector. Floats are NumPy's (BLAS), torch's and ONNX
Runtime's, integers ONNX Runtime's, from floats to floats. Bits take words to floats; once more with
the packing of a vector of floats.

network: 784–2048–2048–2048–10 as BinaryNet makes it, from bytes to scores, and the network of the
CIFAR-10 experiments (128C3 ×2, 256C3 ×2, 512C3 ×2, 1024 ×2, 10), against float twins of the same
layers (ReLU, normalisation folded) in ONNX Runtime and torch, the twin in int8, and the binary
network itself run in floats.

convolution: 3 × 3, as many channels out as in, padded; words to words, threshold included.

Ratios are of CPU times, round by round, with their 95 % intervals, over the fastest float one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from narrows.binary import FromSigns, Layer, Scores, Signs, Window, pack_signs
from narrows.binary.kernels import choose_kernels
from narrows.compress import BinaryActivation, binary_network
from narrows.config import to_dict
from narrows.files import write_atomic
from narrows.graph.quantize import quantize_static
from narrows.measure.contender import Run
from narrows.measure.environment import environment
from narrows.measure.latency import Comparison, Schedule, compare
from narrows.zoo.export import export

SIDES: Final = (1024, 2048, 4096)
# Channels and side of the picture, of the CIFAR-10 network's second, fourth and sixth layer.
CONVOLUTIONS: Final = ((128, 32), (256, 16), (512, 8))
SCALE: Final = 1 / 128
ZERO: Final = 128
BITS: Final = ("bits", "bits, packing too", "bits, NumPy")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    schedule = Schedule(session_s=options.session_s, limit_s=6 * options.session_s)
    parts: dict[str, Callable[[], dict[str, dict[str, Run]]]] = {
        "product": lambda: {f"matrix-vector {n}": _products(n) for n in SIDES},
        "network": _networks,
        "convolution": lambda: {f"3×3, {c} at {s}": _convolutions(c, s) for c, s in CONVOLUTIONS},
    }
    rows = []
    for part in options.parts:
        for name, runs in parts[part]().items():
            rows.append(_row(name, compare(runs, schedule=schedule)))
            _print(rows[-1])
    if options.out:
        record = {"environment": to_dict(environment(threads=1)), "rows": rows}
        write_atomic(options.out, json.dumps(record, indent=1) + "\n")


def _products(side: int) -> dict[str, Run]:
    random = np.random.default_rng(0)
    signs = 2.0 * random.integers(0, 2, (side, side)) - 1
    weight = signs.astype(np.float32)
    vector = (2.0 * random.integers(0, 2, side) - 1).astype(np.float32)
    one, none = np.ones(side, np.float32), np.zeros(side, np.float32)
    product = FromSigns(
        weight=pack_signs(signs.reshape(side, 1, 1, side)),
        channels=side,
        window=Window(kernel=(1, 1)),
    )
    layer = Layer(product=product, readout=Scores(gain=one, offset=none))
    steps = {name: choose_kernels(name).step(layer, (1, 1)) for name in ("compiled", "numpy")}
    words = pack_signs(vector).reshape(1, 1, 1, -1)
    matrix, column = torch.from_numpy(weight), torch.from_numpy(vector)
    dense = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 17]>
        dense (float[1, {side}] x) => (float[1, {side}] y) <float[{side}, {side}] w>
        {{ y = MatMul(x, w) }}"""
    )
    del dense.graph.initializer[:]
    transposed = np.ascontiguousarray(weight.T)
    dense.graph.initializer.append(onnx.numpy_helper.from_array(transposed, "w"))
    runs: dict[str, Run] = {
        "NumPy": lambda: weight @ vector,
        "torch": lambda: matrix @ column,
        "ONNX Runtime": _ort(dense, vector[None]),
        "int8": _ort(quantize_static(dense, [vector[None]]), vector[None]),
        "bits": lambda: steps["compiled"](words),
        "bits, packing too": lambda: steps["compiled"](pack_signs(vector).reshape(1, 1, 1, -1)),
        "bits, NumPy": lambda: steps["numpy"](words),
    }
    wanted = weight @ vector
    for name in BITS:
        found: Any = runs[name]()
        assert (found.reshape(-1) == wanted).all(), name
    return runs


def _networks() -> dict[str, dict[str, Run]]:
    shapes = {"MLP 3 × 2048": (784,), "CIFAR-10 network": (3, 32, 32)}
    builds = {"MLP 3 × 2048": _perceptron, "CIFAR-10 network": _pictures}
    found = {}
    for name, shape in shapes.items():
        for batch in (1, 64) if name.startswith("MLP") else (1,):
            found[f"{name}, batch {batch}"] = _network(builds[name], shape, batch)
    return found


def _network(
    build: Callable[[type[nn.Module]], nn.Module], shape: tuple[int, ...], batch: int
) -> dict[str, Run]:
    twin, binary = build(nn.ReLU).eval(), _binary(build(BinaryActivation))
    samples = np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(np.uint8)
    x = ((samples.astype(np.float32) - ZERO) * SCALE).astype(np.float32)
    exported = export(twin, shape)
    many = [np.random.default_rng(n).normal(size=(8, *shape)).astype(np.float32) for n in range(4)]
    ready = {
        name: binary_network(binary, shape, scale=SCALE, zero=ZERO).ready(name)
        for name in ("compiled", "numpy")
    }
    tensor = torch.from_numpy(x)
    with torch.inference_mode():
        wanted = binary(tensor).numpy()
    for run in ready.values():
        assert np.abs(run(samples) - wanted).max() < 1e-4 * np.abs(wanted).max()

    def eager() -> object:
        with torch.inference_mode():
            return twin(tensor)

    return {
        "ONNX Runtime": _ort(exported, x),
        "torch": eager,
        "int8": _ort(quantize_static(exported, many), x),
        "binary in floats": _ort(export(binary, shape), x),
        "bits": lambda: ready["compiled"](samples),
        "bits, NumPy": lambda: ready["numpy"](samples),
    }


def _perceptron(activation: type[nn.Module]) -> nn.Module:
    widths = (784, 2048, 2048, 2048)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), activation()]
    return nn.Sequential(*layers, nn.Linear(2048, 10, bias=False), nn.BatchNorm1d(10))


def _pictures(activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in (128, 256, 512):
        for pool in ((), (nn.MaxPool2d(2),)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), *pool]
            layers += [nn.BatchNorm2d(outputs), activation()]
            inputs = outputs
    layers.append(nn.Flatten())
    for wide in (512 * 16, 1024):
        layers += [nn.Linear(wide, 1024, bias=False), nn.BatchNorm1d(1024), activation()]
    return nn.Sequential(*layers, nn.Linear(1024, 10, bias=False), nn.BatchNorm1d(10))


def _binary(model: nn.Module) -> nn.Module:
    """Signs for weights, and means and deviations of the sums that random signs give."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.where(parameter >= 0, 1.0, -1.0))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                norm.running_mean.normal_(0, 10)
                norm.running_var.fill_(1000.0)
    return model.eval()


def _convolutions(channels: int, side: int) -> dict[str, Run]:
    random = np.random.default_rng(0)
    weight = (2.0 * random.integers(0, 2, (channels, channels, 3, 3)) - 1).astype(np.float32)
    x = (2.0 * random.integers(0, 2, (1, channels, side, side)) - 1).astype(np.float32)
    product = FromSigns(
        weight=pack_signs(weight.transpose(0, 2, 3, 1)),
        channels=channels,
        window=Window(kernel=(3, 3), padding=(1, 1)),
    )
    threshold, flip = random.integers(-20, 20, channels).astype(np.int32), np.zeros(channels, bool)
    layer = Layer(product=product, readout=Signs(threshold=threshold, flip=flip))
    steps = {name: choose_kernels(name).step(layer, (side, side)) for name in ("compiled", "numpy")}
    words = pack_signs(x.transpose(0, 2, 3, 1))
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).eval()
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight))
        wanted = conv(torch.from_numpy(x)).numpy().transpose(0, 2, 3, 1) >= threshold
    for step in steps.values():
        assert (step(words) == pack_signs(np.where(wanted, 1, -1))).all()
    exported = export(conv, (channels, side, side))
    last = conv.to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)

    def eager() -> object:
        with torch.inference_mode():
            return last(tensor)

    return {
        "ONNX Runtime": _ort(exported, x),
        "torch": eager,
        "int8": _ort(quantize_static(exported, [x]), x),
        "bits": lambda: steps["compiled"](words),
        "bits, NumPy": lambda: steps["numpy"](words),
    }


def _ort(model: onnx.ModelProto, x: np.ndarray) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {session.get_inputs()[0].name: ort.OrtValue.ortvalue_from_numpy(x)}
    names = [output.name for output in session.get_outputs()]
    return lambda: session.run_with_ort_values(names, feeds)


def _row(name: str, taken: Comparison) -> dict[str, Any]:
    times = {each: one.cpu.estimate for each, one in taken.measurements.items()}
    floats = ("NumPy", "torch", "ONNX Runtime")
    best = min((each for each in floats if each in times), key=lambda each: times[each])
    ratios = {}
    for each in times:
        if each not in floats:
            found = taken.ratio(best, each, cpu=True)
            ratios[each] = {"value": found.estimate, "interval": found.interval}
    return {"what": name, "cpu_s": times, "fastest_float": best, "times_as_fast": ratios}


def _print(row: dict[str, Any]) -> None:
    print(f"\n{row['what']}: CPU time in µs; fastest float: {row['fastest_float']}")
    for each, seconds in row["cpu_s"].items():
        ratio = row["times_as_fast"].get(each)
        said = ""
        if ratio is not None:
            low, high = ratio["interval"]
            said = f"{ratio['value']:8.2f} × ({low:.2f}–{high:.2f})"
        print(f"  {each:20}{1e6 * seconds:12.1f}{said}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = ("product", "network", "convolution")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--session-s", type=float, default=4.0, help="for each comparison")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
