"""A deep bidirectional LSTM for speech, and the loss of strings that are not aligned with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class BiLSTM(nn.Module):  # type: ignore[misc]
    """LSTMs over time in both directions; x is (n, steps, inputs).

        merge "output"   x ─► forward 1 ─► … ─► forward 5 ──┐
                         x ─► backward 1 ─► … ─► backward 5 ┴► linear, at each step
        merge "levels"   x ─► forward 1 ┬► forward 2 ┬► … ┬► linear
                         x ─► backward 1┴► backward 2┴► … ┘

    Every direction of every level is a layer of its own, so that each can be of its own size. First
    weights are drawn so that the outputs of each level vary as much as those of the one before;
    with PyTorch's own the fifth varies fifty times less than its inputs, and CTC stays at blanks.
    Gates that forget begin open (bias 1).

    Args:
        inputs: Features of a step.
        outputs: Of each step, CTC's blank (0) included.
        forward_units: Of each forward layer, the first one first.
        backward_units: Of each backward layer; by default those of the forward ones.
        merge: Where the directions meet.
        dropout: Share of a layer's outputs dropped.

    Example:
        >>> with torch.device("meta"):
        ...     model = BiLSTM(20, 29, forward_units=(512,) * 5)
        >>> sum(p.numel() for p in model.parameters() if p.ndim > 1)
        18985984

    Reference:
        "output": the network of table 4 in Yao et al., "DeepIoT", SenSys 2017, 2 · 512 units a
        level, from 20 cepstra to 29 characters. Its percentages count the matrices from layer to
        layer only, not those from step to step; these weights are all of them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        forward_units: Sequence[int] = (128,) * 5,
        backward_units: Sequence[int] | None = None,
        merge: Literal["output", "levels"] = "output",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        backward_units = forward_units if backward_units is None else backward_units
        pairs = list(zip(forward_units, backward_units, strict=True))
        read = [(inputs, inputs), *pairs[:-1]]
        if merge == "levels":
            read = [(inputs, inputs), *((sum(pair), sum(pair)) for pair in pairs[:-1])]
        self.merge = merge
        self.forwards, self.backwards = (
            nn.ModuleList(_layer(r[way], p[way]) for r, p in zip(read, pairs, strict=True))
            for way in (0, 1)
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(sum(pairs[-1]), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, steps, outputs)."""
        y, back = x, x.flip(1)
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            y, back = self.dropout(forwards(y)[0]), self.dropout(backwards(back)[0])
            if self.merge == "levels":
                y = torch.cat([y, back.flip(1)], -1)
                back = y.flip(1)
        if self.merge == "output":
            y = torch.cat([y, back.flip(1)], -1)
        return self.out(y)


def _layer(inputs: int, units: int) -> nn.LSTM:
    made = nn.LSTM(inputs, units, batch_first=True)
    for gate in made.weight_ih_l0.split(units):
        nn.init.xavier_uniform_(gate, gain=2.0)
    for gate in made.weight_hh_l0.split(units):
        nn.init.orthogonal_(gate)
    nn.init.zeros_(made.bias_ih_l0)
    nn.init.zeros_(made.bias_hh_l0)
    nn.init.ones_(made.bias_ih_l0[units : 2 * units])
    return made


def ctc(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """How unlikely each sample's string is, over all ways to spread it along the steps: (n,).

    Args:
        model: Gives logits (n, steps, outputs), of which 0 is the blank.
        x: (n, steps, inputs).
        y: (n, longest) int, numbers from 1; zeros after the end of the string.

    Example:
        >>> x, y = torch.zeros(1, 3, 2), torch.tensor([[1]])  # of 8 paths 6 spell it
        >>> torch.exp(-ctc(nn.Identity(), x, y))
        tensor([0.7500])

    Reference:
        Graves, Fernández, Gomez, Schmidhuber, "Connectionist temporal classification", ICML 2006.
    """
    likely = model(x).float().log_softmax(-1).transpose(0, 1)
    steps = torch.full((len(x),), len(likely))
    lengths = (y > 0).sum(1).cpu()
    return functional.ctc_loss(likely, y, steps, lengths, reduction="none")
