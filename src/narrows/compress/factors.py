"""Layers as products of two smaller ones: two one-dimensional convolutions, or a sparse code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.errors import ModelError

_STEPS = 60


def separated(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    """A convolution as one along the height, to `rank` channels, and one along the width.

        W[n, c, i, j] ≈ Σ_k H[n, k, j] · V[k, c, i]

    by the largest singular values of the matrix of rows (c, i) and columns (j, n); the bias goes to
    the second. Best in least squares, and exact where the rank is full.

    Args:
        layer: Of groups 1, padded with numbers.
        rank: K.

    Raises:
        ModelError: The layer has groups, a padding by name, or fewer singular values.

    Example:
        >>> conv = nn.Conv2d(3, 8, 3, padding=1)
        >>> x = torch.randn(1, 3, 6, 6)
        >>> bool((separated(conv, 9)(x) - conv(x)).abs().max() < 1e-5)
        True

    Reference:
        Tai, Xiao, Zhang, Wang, E, "Convolutional neural networks with low-rank regularization",
        ICLR 2016, section 2; SparseSep takes it for convolutions.
    """
    if layer.groups != 1 or isinstance(layer.padding, str):
        msg = f"{layer} cannot be separated: expected groups=1 and padding in numbers"
        raise ModelError(msg)
    outputs, inputs, height, width = layer.weight.shape
    most = min(inputs * height, outputs * width)
    if not 1 <= rank <= most:
        msg = f"{layer} cannot be separated at rank {rank}: it has ranks from 1 to {most}"
        raise ModelError(msg)
    matrix = layer.weight.detach().permute(1, 2, 3, 0).reshape(inputs * height, width * outputs)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    tall = (left[:, :rank] * root).T.reshape(rank, inputs, height, 1)
    wide = (root[:, None] * right[:rank]).reshape(rank, width, outputs).permute(2, 0, 1)
    pairs = zip(layer.stride, layer.padding, layer.dilation, strict=True)
    (s0, p0, d0), (s1, p1, d1) = pairs
    mode = layer.padding_mode
    first = nn.Conv2d(
        inputs, rank, (height, 1), (s0, 1), (p0, 0), (d0, 1), bias=False, padding_mode=mode
    )
    second = nn.Conv2d(
        rank,
        outputs,
        (1, width),
        (1, s1),
        (0, p1),
        (1, d1),
        bias=layer.bias is not None,
        padding_mode=mode,
    )
    return _filled(first, second, tall, wide.unsqueeze(2), layer.bias)


def sparse_coded(layer: nn.Linear, atoms: int, penalty: float) -> nn.Sequential:
    """A linear layer as a sparse one to `atoms` values, and a dense one from them.

        W ≈ B · A,   min ‖W - B A‖² + λ ‖A‖₁,   columns of B of length 1

    by turns: A by proximal gradients with momentum (FISTA), B by least squares.

    Args:
        layer: With weights (m, n).
        atoms: Columns of B, at most min(m, n).
        penalty: λ over the largest |Bᵀ W| of the first dictionary (0–1): at 1 nothing is left of A.

    Raises:
        ModelError: There are more atoms than outputs or inputs, or none.

    Reference:
        Bhattacharya, Lane, "Sparsification and Separation of Deep Learning Layers for Constrained
        Resource Inference on Wearables", SenSys 2016, section 4: the objective. Departs from the
        paper: how it is minimised (the first dictionary are the singular vectors).
    """
    weight = layer.weight.detach()
    if not 1 <= atoms <= min(weight.shape):
        msg = f"{layer} cannot be coded by {atoms} atoms: expected 1 to {min(weight.shape)}"
        raise ModelError(msg)
    left, _, _ = torch.linalg.svd(weight, full_matrices=False)
    dictionary = left[:, :atoms]
    code = dictionary.T @ weight
    threshold = penalty * float(code.abs().max())
    for _ in range(10):
        code = _coded(weight, dictionary, code, threshold)
        used = code.abs().sum(1) > 0
        if not bool(used.any()):
            break
        gram = code @ code.T + 1e-6 * torch.eye(atoms, dtype=code.dtype)
        solved = torch.linalg.solve(gram, code @ weight.T).T
        length = solved.norm(dim=0)
        free = used & (length > 0)
        dictionary = torch.where(free, solved / length.clamp(min=1e-30), dictionary)
        code = torch.where(free[:, None], code * length[:, None], code)
    code = _coded(weight, dictionary, code, threshold)
    first = nn.Linear(layer.in_features, atoms, bias=False)
    second = nn.Linear(atoms, layer.out_features, bias=layer.bias is not None)
    return _filled(first, second, code, dictionary, layer.bias)


def svd_ratio(rows: int, columns: int, rank: int) -> float:
    """Numbers of a matrix over those of U, S and V of a rank: mn / (k (m + n + 1)).

    Example:
        >>> round(svd_ratio(4096, 4096, 128), 1)
        16.0
    """
    return rows * columns / (rank * (rows + columns + 1))


def _coded(weight: Tensor, dictionary: Tensor, code: Tensor, threshold: float) -> Tensor:
    """A of least ½‖W - B A‖² + λ‖A‖₁ for one dictionary."""
    gram, target = dictionary.T @ dictionary, dictionary.T @ weight
    steepness = float(torch.linalg.matrix_norm(gram, ord=2).clamp(min=1e-12))
    ahead, pace = code, 1.0
    for _ in range(_STEPS):
        moved = ahead - (gram @ ahead - target) / steepness
        shrunk = moved.sign() * (moved.abs() - threshold / steepness).clamp(min=0)
        next_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = shrunk + (pace - 1) / next_pace * (shrunk - code)
        code, pace = shrunk, next_pace
    return code


def _filled(
    first: nn.Conv2d | nn.Linear,
    second: nn.Conv2d | nn.Linear,
    weight: Tensor,
    second_weight: Tensor,
    bias: Tensor | None,
) -> nn.Sequential:
    """Two layers with their weights, of the kind and on the device of those."""
    with torch.no_grad():
        first.to(weight).weight.copy_(weight)
        second.to(weight).weight.copy_(second_weight)
        if bias is not None:
            second.bias.copy_(bias)
    return nn.Sequential(first, second)
