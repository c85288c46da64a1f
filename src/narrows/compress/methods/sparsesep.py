"""SparseSep: layers are replaced by products of two, as small as the accuracy allows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final, final

from torch import nn

from narrows.compress.base import Method, Tell, claim_folder, epoch_teller
from narrows.compress.factors import separated, sparse_coded
from narrows.compress.kept_scores import KeptScores
from narrows.compress.weight_layers import refuse_unknown
from narrows.compress.weight_maps import Mask, bake, put_map_
from narrows.errors import ConfigError, ModelError
from narrows.train import TrainingTask, TrainSettings, score, train

CHOICES: Final = "choices.json"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SparseSep(Method):
    """Replace linear layers by sparse codes, convolutions by two along one axis each.

    From the first layer to the last, each is replaced by the smallest of its candidates with which
    the network, all layers before replaced already, still scores enough on the choose set; a layer
    none of whose candidates is smaller and good enough stays as it is. Nothing is trained, unless
    `finetune` is given. Recurrent and grouped layers stay.

    Args:
        max_drop: Of the score on choose, in all; layer l of L may use up to l / L of it.
        ranks: Of convolutions: shares (0–1) of the outputs that lie between the two.
        atoms: Of linear layers: shares (0–1) of the largest number of atoms.
        penalties: Of linear layers: λ, relative (see `sparse_coded`).
        finetune: A training of all, in which zeros stay zeros.
        skip: Layers that stay.

    Reference:
        Bhattacharya, Lane, "Sparsification and Separation of Deep Learning Layers for Constrained
        Resource Inference on Wearables", SenSys 2016. Departs from the paper: how the candidates
        are minimised, and that they come from a list. The order is that of DeepIoT's comparison.
    """

    name: ClassVar[str] = "sparsesep"
    max_drop: float = 0.01
    ranks: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85)
    atoms: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03)
    finetune: TrainSettings | None = None
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what gives no candidate.

        Raises:
            ConfigError: A value is out of its range.
        """
        for name in ("ranks", "atoms", "penalties"):
            values = getattr(self, name)
            if not values or not all(0 < value <= 1 for value in values):
                msg = f"{name} are {values}: expected shares above 0 and up to 1"
                raise ConfigError(msg)
        if self.max_drop < 0:
            msg = f"max_drop is {self.max_drop}: expected a number from 0 on"
            raise ConfigError(msg)

    def apply(
        self, task: TrainingTask, *, folder: Path | None = None, progress: Tell | None = None
    ) -> nn.Module:
        """The network with layers replaced; zeros of sparse codes are zeros of its weights."""
        claim_folder(folder, self, task.model)
        model = copy.deepcopy(task.model).cpu().eval()
        layers = self._layers(model)
        made = KeptScores(folder, CHOICES)
        dense = made.score("dense", lambda: score(task, model))
        for number, name in enumerate(layers, start=1):
            floor = dense - self.max_drop * number / len(layers)
            taken = self._take_(model, name, task, made, floor)
            if progress is not None:
                progress(f"sparsesep: {name}, {number} of {len(layers)}: {taken}")
        if self.finetune is None:
            return model
        return self._finetuned(model, task, folder, progress)

    def _layers(self, model: nn.Module) -> list[str]:
        """Names of the layers there are to replace."""
        kinds = (nn.Linear, nn.Conv2d)
        found = [name for name, layer in model.named_modules() if isinstance(layer, kinds)]
        refuse_unknown(self.skip, found)
        layers = [name for name in found if name not in self.skip]
        if not layers:
            msg = f"{type(model).__name__} has no linear layer or convolution to replace"
            raise ModelError(msg)
        for name in layers:
            if not bool(model.get_submodule(name).weight.isfinite().all()):
                msg = f"weights of {name!r} are not all finite: train again, or skip the layer"
                raise ModelError(msg)
        return layers

    def _take_(
        self, model: nn.Module, name: str, task: TrainingTask, made: KeptScores, floor: float
    ) -> str:
        """Replace a layer by its smallest candidate that scores enough, in place."""
        layer = model.get_submodule(name)
        whole = layer.weight.numel()
        found = sorted(self._candidates(layer), key=lambda each: each[0])
        for stored, what, factors in found:
            if stored >= whole:
                break
            model.set_submodule(name, factors)
            if made.score(f"{name} {what}", lambda: score(task, model)) >= floor:
                return f"{what}, {stored / whole:.1%} of its weights"
        model.set_submodule(name, layer)
        return "stays"

    def _candidates(self, layer: nn.Module) -> Iterator[tuple[int, str, nn.Sequential]]:
        """What a layer can be replaced by: numbers to store, what it is, and the layers."""
        if isinstance(layer, nn.Conv2d):
            if layer.groups > 1 or isinstance(layer.padding, str) or layer.kernel_size == (1, 1):
                return
            height, width = layer.kernel_size
            most = min(layer.in_channels * height, layer.out_channels * width)
            for share in self.ranks:
                rank = min(most, max(1, round(share * layer.out_channels)))
                factors = separated(layer, rank)
                yield _stored(factors), f"rank {rank}", factors
            return
        assert isinstance(layer, nn.Linear)
        for share in self.atoms:
            atoms = max(1, round(share * min(layer.weight.shape)))
            for penalty in self.penalties:
                factors = sparse_coded(layer, atoms, penalty)
                yield _stored(factors), f"{atoms} atoms, penalty {penalty}", factors

    def _finetuned(
        self, model: nn.Module, task: TrainingTask, folder: Path | None, progress: Tell | None
    ) -> nn.Module:
        assert self.finetune is not None
        for layer in list(model.modules()):
            weight = layer._parameters.get("weight")
            if isinstance(layer, nn.Linear) and weight is not None and not bool(weight.all()):
                put_map_(layer, "weight", Mask(weight.detach() != 0))
        trained = train(
            replace(task, model=model),
            self.finetune,
            folder=None if folder is None else folder / "finetune",
            progress=epoch_teller(progress, "fine-tuning", self.finetune.epochs),
        )
        return bake(trained.model).eval()


def _stored(factors: nn.Sequential) -> int:
    """Numbers to store: zeros of a sparse code are none."""
    return sum(int(layer.weight.count_nonzero()) for layer in factors)
