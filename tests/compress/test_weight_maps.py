"""What is computed is computed with the used weights, in recurrent layers too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from narrows.compress.methods.surgery import Spliced
from narrows.compress.weight_maps import Mask, WeightMap, bake, before_map, maps_in, put_map_
from narrows.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


class Doubled(WeightMap):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


RECURRENT = {
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "lstm projected": lambda: nn.LSTM(3, 4, proj_size=2, batch_first=True),
    "gru": lambda: nn.GRU(3, 4, num_layers=2, bidirectional=True),
    "gru without bias": lambda: nn.GRU(3, 4, bias=False),
    "rnn": lambda: nn.RNN(3, 4, nonlinearity="relu"),
}


def mask_of(weight: Tensor) -> Tensor:
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(weight.numel())) < 0.5


def masked_twin(plain: nn.RNNBase) -> nn.RNNBase:
    """The naive reference: a plain layer whose weights were multiplied by the masks."""
    twin = copy.deepcopy(plain)
    with torch.no_grad():
        for value in twin.parameters():
            value.mul_(mask_of(value))
    return twin


@pytest.mark.parametrize("kind", [Mask, Spliced])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_layer_computes_and_learns_with_the_used_weights(
    name: str, kind: type[WeightMap]
) -> None:
    torch.manual_seed(0)
    plain = RECURRENT[name]()
    mapped, x = copy.deepcopy(plain), torch.randn(5, 2, 3)
    for tensor, value in list(mapped.named_parameters()):
        put_map_(mapped, tensor, kind(mask_of(value)))
    for _ in range(2):  # the second time with weights an optimiser has changed
        twin = masked_twin(plain)
        expected = twin(x)[0]
        for layer in (mapped, copy.deepcopy(mapped), mapped.eval(), mapped.train()):
            assert torch.equal(layer(x)[0], expected)
        mapped.zero_grad()
        mapped(x)[0].square().sum().backward()
        expected.square().sum().backward()
        for tensor, value in twin.named_parameters():
            dense = value.grad
            want = dense * mask_of(value) if kind is Mask else dense
            assert torch.equal(mapped.parametrizations[tensor].original.grad, want)
            assert float(want.abs().sum()) > 0
        with torch.no_grad():
            for tensor, value in plain.named_parameters():
                value.add_(0.1)
                mapped.parametrizations[tensor].original.copy_(value)
    assert torch.allclose(mapped.double()(x.double())[0].float(), masked_twin(plain)(x)[0])


@pytest.mark.parametrize("name", RECURRENT)
def test_a_baked_recurrent_layer_is_a_plain_one_and_the_mapped_one_stays(name: str) -> None:
    plain = RECURRENT[name]()
    mapped, x = copy.deepcopy(plain), torch.randn(5, 2, 3)
    for tensor, value in list(mapped.named_parameters()):
        put_map_(mapped, tensor, Spliced(mask_of(value)))
    before = mapped(x)[0]
    baked = bake(mapped)
    assert type(baked) is type(plain)
    assert list(baked.state_dict()) == list(plain.state_dict())
    assert torch.equal(baked(x)[0], before)
    assert torch.equal(mapped(x)[0], before)
    baked(x)[0].sum().backward()
    assert all(value.grad is not None for value in baked.parameters())
    copy.deepcopy(baked.double())


def test_maps_stack_in_the_order_they_were_put_on() -> None:
    layer = nn.Sequential(nn.Linear(3, 2))
    weight = layer[0].weight.detach().clone()
    mask = torch.tensor([[True, False, True], [False, True, True]])
    first, second = Doubled(), Mask(mask)
    put_map_(layer[0], "weight", first)
    put_map_(layer[0], "weight", second)
    assert torch.equal(layer[0].weight, 2 * weight * mask)
    assert torch.equal(before_map(layer[0], "weight", second), 2 * weight)
    assert [made for _, _, made in maps_in(layer)] == [first, second]
    baked = bake(layer)
    assert torch.equal(baked[0].weight, 2 * weight * mask)
    assert list(baked.state_dict()) == ["0.weight", "0.bias"]
    assert not list(maps_in(baked))
    assert len(list(maps_in(layer))) == 2


def test_attention_uses_its_maps() -> None:
    plain = nn.MultiheadAttention(4, 2)
    mapped, x = copy.deepcopy(plain), torch.randn(5, 2, 4)
    mask = mask_of(plain.in_proj_weight)
    put_map_(mapped, "in_proj_weight", Mask(mask))
    put_map_(mapped.out_proj, "weight", Doubled())
    with torch.no_grad():
        plain.in_proj_weight.mul_(mask)
        plain.out_proj.weight.mul_(2)
    assert torch.equal(mapped(x, x, x)[0], plain(x, x, x)[0])
    assert torch.equal(bake(mapped)(x, x, x)[0], plain(x, x, x)[0])


def test_a_mask_that_is_infinite_under_it_is_still_zero() -> None:
    layer = nn.Linear(2, 1, bias=False)
    put_map_(layer, "weight", Mask(torch.tensor([[True, False]])))
    with torch.no_grad():
        layer.parametrizations.weight.original.fill_(torch.inf)
    assert layer.weight.tolist() == [[torch.inf, 0.0]]


def test_a_weight_that_is_not_there_is_told() -> None:
    with pytest.raises(ModelError, match="a Linear has no weight 'kernel': it has weight, bias"):
        put_map_(nn.Linear(2, 2), "kernel", Doubled())
