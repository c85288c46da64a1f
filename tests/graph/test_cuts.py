import handmade
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from narrows.errors import CutError
from narrows.graph import check_equal, find, find_cuts, load
from narrows.testing.brute_force import separating


@pytest.fixture(params=handmade.ALL, scope="module")
def model(request):
    return load(handmade.ALL[request.param]())


def test_cuts_are_the_tensors_whose_removal_separates_the_graph(model):
    cuts = find_cuts(model)
    alone = {cut.tensor for cut in cuts}
    alone |= {place.tensor for place in cuts.refused if not place.crossing}
    ends = {info.name for info in model.outputs}
    assert alone - ends == separating(model.proto) - ends
    assert cuts[0].tensor == model.input.name
    assert cuts[-1].tensor in ends


def test_every_value_is_a_cut_or_refused_with_a_reason(model):
    cuts = find_cuts(model)
    places = {cut.tensor for cut in cuts} | {place.tensor for place in cuts.refused}
    assert places | set(model.flow.outputs) == model.flow.data & set(model.tensors)
    for place in cuts.refused:
        assert place.reason
        assert all(f"{name!r}" in place.reason for name in place.crossing[:3])
        assert cuts[place.after + 1]


def test_costs_grow_with_depth_and_add_up(model):
    cuts = find_cuts(model)
    total = cuts[-1].head_macs
    assert cuts[0].head_macs == cuts[0].head_weight_bytes == cuts[-1].tail_macs == 0
    for before, after in zip(cuts.cuts, cuts.cuts[1:], strict=False):
        assert before.head_macs <= after.head_macs
        assert before.head_peak_bytes <= after.head_peak_bytes
        assert before.head_weight_bytes <= after.head_weight_bytes
    assert all(cut.head_macs + cut.tail_macs == total for cut in cuts)


def test_dominated_is_no_better_in_bytes_or_macs_and_worse_in_one(model):
    cuts = find_cuts(model)
    for cut in cuts:
        worse = [
            other.index
            for other in cuts
            if other.size_bytes <= cut.size_bytes
            and other.head_macs <= cut.head_macs
            and (other.size_bytes < cut.size_bytes or other.head_macs < cut.head_macs)
        ]
        assert (cut.dominated_by in worse) if worse else cut.dominated_by is None
    assert cuts.useful


def names(make):
    return [cut.tensor for cut in find_cuts(load(make()))]


def test_cuts_by_hand():
    assert names(handmade.sequential) == ["x", "a", "b", "c", "d", "e", "y"]
    assert names(handmade.residual) == ["x", "a", "b", "d", "e", "y"]
    assert names(handmade.concatenating) == ["x", "s", "d", "e", "f", "y"]
    assert names(handmade.two_branches) == ["x", "y"]
    assert names(handmade.shape_chain) == ["x", "a", "b", "c", "d", "y"]
    assert names(handmade.lstm) == ["x", "t", "r", "all", "s", "p", "y"]
    assert names(handmade.gru) == ["x", "t", "p", "y"]
    assert names(handmade.quantized) == ["x", "q0", "q1", "q3", "q4", "y"]
    assert names(handmade.integer_operators) == ["x", "q", "c", "p", "y"]
    assert names(handmade.two_outputs) == ["x", "a", "features", "features"]
    assert names(handmade.captured) == ["x", "a", "c", "y"]


def test_batch_axis_moves_with_transposes():
    cuts = find_cuts(load(handmade.lstm()))
    found = {cut.tensor: (cut.batch_axis, cut.shape) for cut in cuts}
    assert found["t"] == (1, (7, 3))
    assert found["all"] == (2, (7, 2, 5))
    assert found["s"] == (1, (7, 5))
    assert found["p"] == (0, (5,))


def test_folded_batch_is_refused_and_says_so():
    cuts = find_cuts(load(handmade.folded_batch()))
    assert [cut.tensor for cut in cuts] == ["x", "a", "d", "e", "f", "total", "y"]
    reasons = {place.tensor: place.reason for place in cuts.refused}
    assert "one entry per sample" in reasons["windows"]


def test_quantized_graph_is_cut_only_after_quantize():
    cuts = find_cuts(load(handmade.quantized()))
    refused = {place.tensor: place for place in cuts.refused}
    assert refused["d0"].crossing == ()
    assert "QuantizeLinear" in refused["d0"].reason
    assert refused["c2"].crossing == ("d1",)
    assert {cut.dtype for cut in cuts.cuts[1:-1]} == {"uint8"}


def test_memory_by_hand():
    x, conv = 3 * 8 * 8 * 4, 4 * 8 * 8 * 4
    by_name = {cut.tensor: cut for cut in find_cuts(load(handmade.residual()))}
    assert by_name["x"].head_peak_bytes == x
    assert by_name["a"].head_peak_bytes == x + conv  # the caller holds the input
    assert by_name["b"].head_peak_bytes == x + conv  # in place
    assert by_name["d"].head_peak_bytes == x + 2 * conv
    assert by_name["a"].head_weight_bytes == 4 * 3 * 9 * 4
    assert by_name["y"].head_weight_bytes == (4 * 3 * 9 + 4 * 4 * 9) * 4
    quantized = find_cuts(load(handmade.quantized()))
    assert find(quantized, "q1").head_peak_bytes == x + 3 * 64 + 4 * 64  # bytes, not floats
    assert find(quantized, "q1").head_weight_bytes == 4 * 3 * 9 + 4 * 4 + 4 + 2 * (4 + 1)


def test_find_takes_index_or_name_and_names_the_nearest():
    cuts = find_cuts(load(handmade.residual()))
    assert find(cuts, "2") == find(cuts, "b") == find(cuts, 2) == cuts[2]
    assert find(cuts, "-1").tensor == "y"
    with pytest.raises(CutError, match=r"'b' \(4x8x8\) crosses.*Nearest cuts: 2 'b', 3 'd'"):
        find(cuts, "c")
    with pytest.raises(CutError, match=r"no cut 9: the model has cuts 0 \(input\) to 5"):
        find(cuts, "9")
    with pytest.raises(CutError, match=r"no tensor 'ee'.*'e'"):
        find(cuts, "ee")


def test_find_takes_names_that_are_numbers():
    proto = handmade.build("g (float[N, 4] x) => (float[N, 4] y) {t = Relu(x) y = Exp(t)}")
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "495"
    assert find(find_cuts(load(proto)), "495").index == 1


@st.composite
def graphs(draw):
    """Random graphs of increasing functions, so that nothing cancels.

    Unary functions, sums, and reshapes that use the batch size of any earlier value.
    """
    values = ["x"]
    lines = []
    for i in range(draw(st.integers(2, 12))):
        kind = draw(st.sampled_from(["unary", "unary", "sum", "shape"]))
        recent = st.sampled_from(values[-3:])
        a, b, any_value = draw(recent), draw(recent), draw(st.sampled_from(values))
        if kind == "unary":
            lines.append(f"v{i} = {draw(st.sampled_from(['Erf', 'Tanh', 'Softsign']))}({a})")
        elif kind == "sum":
            lines.append(f"v{i} = Add({a}, {b})")
        else:
            lines.append(f"s{i} = Shape({any_value})")
            lines.append(f"v{i} = Reshape({a}, s{i})")
        values.append(f"v{i}")
    text = "\n".join(lines)
    return f"g (float[N, 3] x) => (float[N, 3] y) {{\n{text}\ny = Exp({values[-1]})\n}}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.data())
def test_random_graphs_agree_with_brute_force_and_split_exactly(text, data):
    model = load(handmade.build(text))
    cuts = find_cuts(model)
    assert {cut.tensor for cut in cuts} == separating(model.proto)
    cut = data.draw(st.sampled_from(cuts.cuts))
    assert check_equal(model, cut, handmade.samples(model)).exact
