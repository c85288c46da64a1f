import handmade
import numpy as np
import onnx
import pytest

from narrows.errors import CutError, ModelError
from narrows.graph import check_equal, find, find_cuts, load, run, session, split


@pytest.fixture(params=handmade.ALL, scope="module")
def model(request):
    return load(handmade.ALL[request.param]())


def test_head_then_tail_is_the_whole_bit_for_bit(model):
    samples = handmade.samples(model)
    for cut in find_cuts(model):
        assert check_equal(model, cut, samples).exact


def test_head_then_tail_is_the_whole_with_optimisations(model):
    samples = handmade.samples(model)
    quantized = any(node.op_type == "QuantizeLinear" for node in model.proto.graph.node)
    for cut in find_cuts(model):
        found = check_equal(model, cut, samples, optimise=True)
        assert found.error <= 1e-5
        assert found.exact or not quantized


def test_other_batch_sizes_than_the_two_that_were_probed(model):
    for cut in find_cuts(model):
        for count in (1, 5):
            feeds = {model.input.name: handmade.samples(model, count)}
            parts = split(model, cut)
            whole = run(session(model.proto, optimise=False), feeds)
            (feature,) = feeds.values()
            if parts.head is not None:
                feature = run(session(parts.head, optimise=False), feeds)[0]
            if parts.tail is None:
                continue
            found = run(session(parts.tail, optimise=False), {cut.tensor: feature})
            for a, b in zip(whole, found, strict=True):
                np.testing.assert_array_equal(a, b)


def test_parts_are_valid_models_that_share_no_work(model):
    for cut in find_cuts(model).cuts[1:-1]:
        parts = split(model, cut)
        onnx.checker.check_model(parts.head, full_check=True)
        assert [value.name for value in parts.head.graph.output] == [cut.tensor]
        assert [value.name for value in parts.tail.graph.input] == [cut.tensor]
        head = {name for node in parts.head.graph.node for name in node.output}
        tail = {name for node in parts.tail.graph.node for name in node.output}
        assert not head & tail & model.flow.data


def test_ends_have_nothing_to_compute_on_one_side(model):
    cuts = find_cuts(model)
    assert split(model, cuts[0]).head is None
    assert split(model, cuts[-1]).tail is None


def test_splitting_changes_neither_model_nor_parts_share_memory():
    model = load(handmade.shape_chain())
    before = model.proto.SerializeToString(deterministic=True)
    for cut in find_cuts(model):
        parts = split(model, cut)
        for part in (parts.head, parts.tail):
            if part is not None:
                part.graph.node[0].name = "changed"
    assert model.proto.SerializeToString(deterministic=True) == before


def test_wrong_tail_is_caught():
    model = load(handmade.sequential())
    other = load(handmade.residual())
    with pytest.raises(CutError, match="belongs to another"):
        split(load(handmade.lstm()), find(find_cuts(other), "d"))
    weights = model.proto.graph.initializer[0]
    whole = run(session(model.proto, optimise=False), {"x": handmade.samples(model)})
    weights.raw_data = bytes(len(weights.raw_data))
    with pytest.raises(CutError, match="differ from the whole"):
        check_equal(model, find_cuts(model)[3], handmade.samples(model), whole=whole)


def test_second_output_that_is_not_a_number_is_caught():
    text = "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) {a = Tanh(x) y = Exp(a) z = Erf(a)}"
    model = load(handmade.build(text))
    x, cut = handmade.samples(model), find(find_cuts(model), "a")
    whole = run(session(model.proto), {"x": x})
    assert check_equal(model, cut, x, optimise=True, whole=whole).error <= 1e-5
    whole[1] = np.full_like(whole[1], np.nan)
    with pytest.raises(CutError, match="differ from the whole by nan"):
        check_equal(model, cut, x, optimise=True, whole=whole)


def test_constant_output_proves_nothing():
    model = load(handmade.sequential())
    same = np.repeat(handmade.samples(model, 1), 3, axis=0)
    with pytest.raises(ModelError, match="same for every sample"):
        check_equal(model, find_cuts(model)[2], same)
    hardly = same + np.float32(1e-6) * handmade.samples(model)
    assert check_equal(model, find_cuts(model)[2], hardly).exact
    with pytest.raises(ModelError, match="or nearly"):
        check_equal(model, find_cuts(model)[2], hardly, optimise=True)


def test_place_that_does_not_separate_cannot_be_split():
    model = load(handmade.residual())
    cut = find(find_cuts(model), "d")
    from dataclasses import replace

    with pytest.raises(CutError, match="does not separate"):
        split(model, replace(cut, tensor="c", size_bytes=1))


def test_inner_values_can_be_asked_of_a_session():
    model = load(handmade.residual())
    x = handmade.samples(model)
    asked = session(model.proto, outputs=["b", "e"])
    b, e = run(asked, {"x": x})
    assert [out.name for out in asked.get_outputs()] == ["b", "e"]
    assert b.shape == e.shape == (3, 4, 8, 8)
    assert (b >= 0).all()
