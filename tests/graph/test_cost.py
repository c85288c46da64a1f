import handmade
import numpy as np
import onnx
import pytest

from narrows.graph import load, node_costs, total_macs, unknown_operators
from narrows.graph.cost_rules import MAC_RULES, NO_MACS, Call, rule_for


def test_convolutions_and_products_by_hand():
    found = node_costs(load(handmade.sequential()))
    macs = [4 * 8 * 8 * 3 * 9, 0, 6 * 3 * 3 * 4 * 9, 0, 0, 5 * 6]
    assert [cost.macs for cost in found] == macs
    assert total_macs(load(handmade.sequential())) == sum(macs)
    first, last = found[0], found[-1]
    assert (first.kernel, first.stride, first.group) == ((3, 3), (1, 1), 1)
    assert (first.in_shape, first.out_shape) == ((1, 3, 8, 8), (1, 4, 8, 8))
    assert (first.in_bytes, first.out_bytes) == (3 * 64 * 4, 4 * 64 * 4)
    assert first.weight_bytes == 4 * 3 * 9 * 4
    assert found[2].stride == (2, 2)
    assert (last.kernel, last.weight_bytes, last.out_shape) == ((), (30 + 5) * 4, (1, 5))


def test_recurrent_by_hand():
    found = {cost.op_type: cost for cost in node_costs(load(handmade.lstm()))}
    assert found["LSTM"].macs == 2 * 7 * 4 * 5 * (3 + 5)
    assert found["LSTM"].rule_known
    assert not found["ConstantOfShape"].is_data
    gru = {cost.op_type: cost for cost in node_costs(load(handmade.gru()))}
    assert gru["GRU"].macs == 7 * 3 * 5 * (3 + 5)


def test_quantized_counts_like_float_and_weights_as_stored():
    found = [cost for cost in node_costs(load(handmade.quantized())) if cost.op_type == "Conv"]
    assert [cost.macs for cost in found] == [64 * 4 * 27, 64 * 4 * 36]
    assert found[0].weight_bytes == 4 * 27 + 4 * 4 + 4  # int8 weights, float scales, int8 zeros


def test_folded_batch_counts_one_sample():
    found = {cost.op_type: cost for cost in node_costs(load(handmade.folded_batch()))}
    assert found["MatMul"].macs == 4 * 6 * 6


@pytest.mark.parametrize(
    ("op", "inputs", "output", "attributes", "macs"),
    [
        ("Conv", [(1, 8, 10, 10), (16, 2, 3, 3)], (1, 16, 8, 8), {"group": 4}, 16 * 64 * 18),
        ("ConvTranspose", [(1, 4, 5, 5), (4, 3, 2, 2)], (1, 3, 10, 10), {}, 4 * 25 * 3 * 4),
        ("Gemm", [(6, 2), (6, 5)], (2, 5), {"transA": 1}, 60),
        ("MatMul", [(3, 4, 5), (3, 5, 6)], (3, 4, 6), {}, 360),
        ("MatMulInteger", [(4, 5), (5, 6)], (4, 6), {}, 120),
        ("QLinearConv", [(1, 3, 4, 4), (), (), (2, 3, 1, 1)], (1, 2, 4, 4), {}, 96),
        ("QLinearMatMul", [(4, 5), (), (), (5, 6)], (4, 6), {}, 120),
        ("Einsum", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {"equation": b"bij,bjk->bik"}, 120),
        ("Einsum", [(7, 3, 4), (4, 5)], (7, 3, 5), {"equation": b"...ij,jk->...ik"}, 420),
        ("Einsum", [(3, 4)], (4, 3), {"equation": b"ij->ji"}, 0),
        ("Attention", [(1, 2, 5, 8), (1, 2, 6, 8), (1, 2, 6, 4)], (1, 2, 5, 4), {}, 480 + 240),
        ("LayerNormalization", [(1, 4, 8), (8,)], (1, 4, 8), {}, 64),
        ("BatchNormalization", [(1, 4, 8), (4,)], (1, 4, 8), {}, 32),
        ("LRN", [(1, 4, 8)], (1, 4, 8), {"size": 5}, 160),
        ("Softmax", [(1, 9)], (1, 9), {}, 0),
    ],
)
def test_rules(op, inputs, output, attributes, macs):
    call = Call(attributes=attributes, inputs=tuple(inputs), outputs=(output,))
    assert rule_for(op, "")(call) == macs


def test_attention_of_microsoft_makes_its_own_queries_keys_and_values():
    proto = handmade.build(
        "g (float[N, 5, 8] x) => (float[] y) "
        "{y = com.microsoft.Attention <num_heads = 2> (x, w, b)}",
        w=(8, 24),
        b=(24,),
    )
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    (cost,) = node_costs(load(proto))
    assert cost.macs == 5 * 8 * 24 + 2 * 5 * 5 * 8
    assert cost.rule_known


def test_einsum_rule_counts_what_numpy_multiplies():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 4)), rng.random((2, 4, 5))
    path = np.einsum_path("bij,bjk->bik", a, b)[1]
    flops = float(path.split("Naive FLOP count:")[1].split()[0])
    call = Call(
        attributes={"equation": b"bij,bjk->bik"},
        inputs=(a.shape, b.shape),
        outputs=((2, 3, 5),),
    )
    assert rule_for("Einsum", "")(call) * 2 == flops


def test_unknown_operators_are_named_and_counted():
    proto = handmade.build(
        "g (float[N, 2, 2] x) => (float[N] y) {a = Det(x) b = Bernoulli(a) y = Add(b, a)}"
    )
    model = load(proto)
    assert unknown_operators(model) == {"Det": 1, "Bernoulli": 1}
    assert [c.op_type for c in node_costs(model) if not c.rule_known] == ["Det", "Bernoulli"]


def test_names_mean_what_they_say_only_in_known_domains():
    assert rule_for("Conv", "com.example") is None
    assert not set(MAC_RULES) & NO_MACS
