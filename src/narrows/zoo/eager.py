"""Eager torch as a baseline: a network as its authors run it, in a process outside narrows.

    python -m narrows.zoo.eager torchvision:mobilenet_v2 --threads 1

speaks as `narrows.measure.worker` does, so that it is a contender like the others. It is a
baseline, not a runtime for devices: torch takes some hundred megabytes and several times as long.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from narrows.measure.contender import Run
from narrows.measure.worker import About, Program, serve
from narrows.measure.workers import WorkerContender

if TYPE_CHECKING:
    from torch import nn


@final
class EagerProgram(Program):
    """A network of the zoo, of timm or of torchvision, run by torch on random numbers.

    Args:
        model: Its name, as `narrows.zoo.sources` reads it.
        threads: Threads inside an operator.
        batch: Samples in one call.
    """

    def __init__(self, model: str, *, threads: int = 1, batch: int = 1) -> None:
        self._model, self._threads, self._batch = model, threads, batch
        self._network: nn.Module | None = None
        self._shape: tuple[int, ...] = ()

    def bring_in(self) -> None:
        """Import torch."""
        import torch

        torch.set_num_threads(self._threads)

    def load(self) -> Run:
        """Build the network; a call is one inference without gradients."""
        import torch

        from narrows.zoo.sources import network

        module, shape = network(self._model)
        self._network = module.eval()
        generator = torch.Generator().manual_seed(0)
        self._shape = (self._batch, *shape)
        inputs = torch.randn(self._shape, generator=generator)

        def run() -> object:
            with torch.inference_mode():
                return module(inputs)

        return run

    def about(self) -> About:
        """Element type of the weights, which eager torch computes in, and the input's shape."""
        assert self._network is not None
        kinds = {str(weight.dtype).removeprefix("torch.") for weight in self._network.parameters()}
        precision = ", ".join(sorted(kinds)).replace("float", "f")
        return About(precision=precision, inputs={"input": self._shape})


def eager_command(model: str, threads: int = 1, *, batch: int = 1) -> tuple[str, ...]:
    """The command of a worker that runs a network by torch.

    Args:
        model: Its name, as `narrows.zoo.sources` reads it.
        threads: Threads inside an operator.
        batch: Samples in one call.
    """
    options = ("--threads", str(threads), "--batch", str(batch))
    return (sys.executable, "-P", "-m", "narrows.zoo.eager", model, *options)


def open_eager(model: str, *, threads: int = 1, batch: int = 1) -> WorkerContender:
    """A network run by torch in a process of its own, ready to be called.

    Args:
        model: Its name, as `narrows.zoo.sources` reads it.
        threads: Threads inside an operator.
        batch: Samples in one call.

    Raises:
        MeasureError: It cannot be built; the message says why.
    """
    command = eager_command(model, threads, batch=batch)
    return WorkerContender(f"{model} (torch eager)", command, threads)


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="narrows.zoo.eager", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args(arguments)
    serve(EagerProgram(given.model, threads=given.threads, batch=given.batch))


if __name__ == "__main__":
    _main()
