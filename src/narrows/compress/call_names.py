"""Functions and methods of tensors, by what they do to units."""

_ELEMENT_BY_ELEMENT = """
    relu relu_ relu6 sigmoid sigmoid_ tanh tanh_ gelu silu mish hardswish hardsigmoid leaky_relu
    elu selu celu rrelu softplus softsign logsigmoid log_sigmoid hardtanh threshold
    dropout dropout2d feature_dropout alpha_dropout stochastic_depth
    abs neg exp log sqrt rsqrt square pow reciprocal sin cos erf clamp clamp_ clamp_min clamp_max
    add add_ sub sub_ mul mul_ div div_ truediv iadd imul isub itruediv maximum minimum lerp
    where masked_fill masked_fill_ float double half to type type_as contiguous clone detach
    requires_grad_
"""
_REARRANGING = """
    view view_as reshape reshape_as flatten unflatten permute transpose t movedim swapaxes swapdims
    unsqueeze squeeze expand expand_as repeat chunk split tensor_split unbind getitem select narrow
    index_select cat concat concatenate stack roll flip getattr
    pixel_shuffle pixel_unshuffle channel_shuffle
"""

ELEMENTWISE = frozenset(_ELEMENT_BY_ELEMENT.split())
MOVING = frozenset(_REARRANGING.split())
REDUCING = frozenset(("mean", "sum", "amax", "amin", "max", "min", "prod", "std", "var", "norm"))
POOLING = {
    f"{kind}_pool{axes}d": axes
    for axes in (1, 2, 3)
    for kind in ("avg", "max", "adaptive_avg", "adaptive_max")
} | {"interpolate": 0}
