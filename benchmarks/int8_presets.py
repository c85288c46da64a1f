"""How much slower than on x86 the boards of the presets run 8-bit integers: the numbers' source.

    python benchmarks/int8_presets.py [--profile device.json] [--write] [--out int8_presets.json]

A preset of a board is a profile of an x86 core, `slowdown` times slower. That core has
instructions for 8-bit dot products; most boards have not, and gain far less from int8. ncnn
publishes times of the same networks in float32 and int8, on one thread, for each board. So
`int8_slowdown` is what makes the profile predict the gain that was measured on the board:

    slowdown · float part + int8_slowdown · integer part = slowdown · time in floats / gain

MobileNet's goes into the preset. The others' is larger, because ncnn computes 3x3 convolutions in
float32 by Winograd's algorithm, which ONNX Runtime does not: against that int8 gains less. An
estimate all the same: ncnn's kernels are not ONNX Runtime's. The Raspberry Pi 5 has the dot
products and is left as it is. Nothing is timed here: the times on x86 are predicted by the
profile; `python benchmarks/predict_head.py` says how well. Needs the extra `lab`.

`--write` puts the rates of the profile and these numbers into the presets of this checkout. A
profile is made by `narrows measure --profile device.json`, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from narrows.config import write_json
from narrows.graph.cost import node_costs
from narrows.graph.load import Model, load
from narrows.graph.quantize import quantize_static
from narrows.measure.profiling import OperatorRates, predict_head_s, with_slower_integers
from narrows.plan.profile import load_device
from narrows.zoo.sources import resolve

NETWORKS = {
    "squeezenet": "torchvision:squeezenet1_1?pretrained=0",
    "mobilenet": "timm:mobilenetv1_100?pretrained=0",
    "googlenet": "torchvision:googlenet?pretrained=0",
    "resnet18": "torchvision:resnet18?pretrained=0",
    "resnet50": "torchvision:resnet50?pretrained=0",
    "mobilenet_v2": "torchvision:mobilenet_v2?pretrained=0",
}
CHOSEN = "mobilenet"
PUBLISHED_MS = {
    "raspberry-pi-3b-plus": {
        "squeezenet": (125.58, 135.98),
        "mobilenet": (205.65, 181.91),
        "googlenet": (450.79, 425.78),
        "resnet18": (379.57, 312.68),
        "resnet50": (979.75, 893.83),
    },
    "raspberry-pi-4": {
        "squeezenet": (73.96, 69.42),
        "mobilenet": (124.32, 84.82),
        "googlenet": (235.94, 210.00),
        "resnet18": (191.10, 158.50),
        "resnet50": (534.11, 423.96),
    },
    "cortex-a53": {
        "squeezenet": (240.77, 212.94),
        "mobilenet": (393.94, 286.75),
        "googlenet": (780.39, 664.15),
        "resnet18": (654.69, 479.40),
        "resnet50": (1802.79, 1313.15),
    },
}
"""Mean milliseconds in float32 and int8: github.com/Tencent/ncnn, benchmark/README.md at a4d2ea1,
on one thread; cortex-a53 is its Raspberry Pi Zero 2 W."""

NCNN = (
    "of integer kernels; so that MobileNet gains from int8 what it gains by ncnn's published times"
    " (github.com/Tencent/ncnn, benchmark/README.md at a4d2ea1), one thread: {0:g} ms in float32,"
    " {1:g} in int8, against the gain that the rates predict; benchmarks/int8_presets.py. An"
    " estimate: two runtimes; profile the board itself to do better"
)
ESP32_S3 = (
    "of integer kernels; MobileNetV2 int8 takes 5.8 s a round trip, nearly all of it"
    " inference (arXiv 2507.16594), over what the rates predict for it in int8;"
    " benchmarks/int8_presets.py"
)
ESP32_S3_MOBILENET_V2_S = 5.8
"""In int8; arXiv 2507.16594."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Predicted times of a network on the core that the rates were fitted on."""

    float_s: float
    outside_s: float
    integer_s: float

    def slowdown(self, slowdown: float, gain: float) -> float:
        """That of integers, where the board gains this much from them."""
        return slowdown * (self.float_s / gain - self.outside_s) / self.integer_s


def parts(model: Model, rates: OperatorRates) -> Parts:
    """A network in floats; and in int8 the time outside integer kernels and inside."""
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((1, *model.input.shape), dtype=np.float32) for _ in range(2)]
    quantized = node_costs(load(quantize_static(model, samples)))
    outside_s = predict_head_s(quantized, with_slower_integers(rates, 0.0))
    return Parts(
        float_s=predict_head_s(node_costs(model), rates),
        outside_s=outside_s,
        integer_s=predict_head_s(quantized, rates) - outside_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, help="of the x86 core; else the preset x86-core")
    parser.add_argument("--write", action="store_true", help="into the presets of this checkout")
    parser.add_argument("--out", type=Path, default=Path("int8_presets.json"))
    asked = parser.parse_args()
    rates = load_device(asked.profile or "x86-core").rates
    found = {name: parts(load(resolve(model)), rates) for name, model in NETWORKS.items()}
    for name, part in found.items():
        int8_s = part.outside_s + part.integer_s
        print(
            f"{name:12} predicted: {part.float_s * 1e3:6.2f} ms in float32,"
            f" {int8_s * 1e3:6.2f} in int8, gain {part.float_s / int8_s:.2f}"
        )
    made: dict[str, float] = {}
    for board, times in PUBLISHED_MS.items():
        slowdown = load_device(board).slowdown
        gains = {name: float_ms / int8_ms for name, (float_ms, int8_ms) in times.items()}
        each = {name: found[name].slowdown(slowdown, gain) for name, gain in gains.items()}
        made[board] = each[CHOSEN]
        told = ", ".join(f"{name} {gains[name]:.2f} {each[name]:.1f}" for name in each)
        print(f"{board:22} slowdown {slowdown:g}; measured gain and slowdown of integers: {told}")
    small = found["mobilenet_v2"]
    slowdown = load_device("esp32-s3").slowdown
    outside_s = slowdown * small.outside_s
    made["esp32-s3"] = (ESP32_S3_MOBILENET_V2_S - outside_s) / small.integer_s
    print(f"{'esp32-s3':22} slowdown {slowdown:g}, of integers {made['esp32-s3']:.0f}")
    write_json(asked.out, made)
    if asked.write:
        write_presets(rates, made)


def write_presets(rates: OperatorRates, made: dict[str, float]) -> None:
    """Put the rates and what was found for the boards into the files that ship."""
    folder = Path(__file__).parents[1] / "src/narrows/plan/presets"
    write_json(folder / "rates/x86-core.json", rates)
    for board, slowdown in made.items():
        path = folder / "device" / f"{board}.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        data["int8_slowdown"] = float(f"{slowdown:.2g}")
        data["sources"]["int8_slowdown"] = (
            NCNN.format(*PUBLISHED_MS[board][CHOSEN]) if board in PUBLISHED_MS else ESP32_S3
        )
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
