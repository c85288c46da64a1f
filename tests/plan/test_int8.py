from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from plan_nets import array_variant, inputs_of, pictures
from plan_samples import PLACES

from narrows.cli.deploy import write_deployment
from narrows.coding import CODERS
from narrows.errors import PlanError
from narrows.graph.cuts import find_cuts
from narrows.graph.load import Model, load
from narrows.graph.ort import run, session
from narrows.graph.quantized import weight_bearing
from narrows.plan import timing
from narrows.plan.candidate import Candidate, Route
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.features import Tail
from narrows.plan.halves import int8_halves
from narrows.plan.record import PlanRecord
from narrows.plan.settings import Settings
from narrows.plan.store import PlanFolder
from narrows.plan.variant import Variant
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.transport import Loopback
from narrows.task import Task, array_task

SETTINGS = Settings(rates=3, table_examples=40, screen_share=1.0, int8_examples=32)


def planned(variant: Variant, folder: Path, settings: Settings = SETTINGS) -> PlanRecord:
    constraints = Constraints(max_drop=0.1)
    return plan([variant], PLACES, constraints, Objective.LATENCY, folder, settings=settings)


@pytest.fixture(autouse=True)
def _by_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times by MACs alone: the samples' profiles hold no rates of kernels."""
    monkeypatch.setattr(
        timing, "predict_head_s", lambda costs, _: 1e-5 + sum(cost.macs for cost in costs) / 1e9
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlanRecord, PlanFolder]:
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "predict_head_s", lambda costs, _: 1e-5 + len(costs) * 1e-4)
        return planned(array_variant(), folder), PlanFolder(path=folder)


def choose_inputs() -> tuple[np.ndarray, np.ndarray, Task]:
    task = array_variant().task
    inputs, labels = task.inputs(task.choose, 0, len(task.choose))
    return inputs, labels, task


def int8_of(folder: PlanFolder) -> Model:
    return load(folder.model("net-int8"))


def splits(record: PlanRecord) -> list[Candidate]:
    return [c for c in record.candidates if c.route is Route.SPLIT and c.variant == "net-int8"]


def test_the_int8_model_is_a_variant_with_its_own_score_and_size(
    made: tuple[PlanRecord, PlanFolder],
) -> None:
    record, folder = made
    original, integers = record.variants
    assert (original.name, integers.name) == ("net", "net-int8")
    assert record.originals == ("net",)
    assert weight_bearing(int8_of(folder).proto).floating == ()
    assert integers.weight_bytes < 0.4 * original.weight_bytes
    assert integers.total_macs == original.total_macs
    inputs, labels, _ = choose_inputs()
    (outputs,) = run(session(int8_of(folder).proto), {"x": inputs})
    assert integers.choose.accuracy == np.mean(outputs.argmax(axis=1) == labels)
    assert integers.report is not None


def test_all_of_it_on_the_device_is_judged_against_the_original(
    made: tuple[PlanRecord, PlanFolder],
) -> None:
    record, folder = made
    local, exact = record.candidate("net-int8/local"), record.candidate("local")
    inputs, labels, _ = choose_inputs()
    (found,) = run(session(int8_of(folder).proto), {"x": inputs})
    (original,) = run(session(array_variant().model.proto), {"x": inputs})
    hits = (found.argmax(axis=1) == labels).mean()
    assert local.choose_drop.value == pytest.approx((original.argmax(1) == labels).mean() - hits)
    assert local.choose.agreement == np.mean(found.argmax(axis=1) == original.argmax(axis=1))
    assert local.cost.device_memory_bytes < exact.cost.device_memory_bytes
    assert local.report is not None
    assert local.report_drop is not None
    assert (local.payload_bytes, local.cost.bytes_up) == (0.0, 0.0)


def test_heads_share_the_codecs_of_the_original(made: tuple[PlanRecord, PlanFolder]) -> None:
    """Payload and accuracy of a row follow from the int8 head, the float tail and the tables."""
    record, folder = made
    inputs, labels, _ = choose_inputs()
    model = array_variant().model
    halves = int8_halves(model, find_cuts(model), int8_of(folder))
    rows = [c for c in splits(record) if c.codec and c.codec.name.endswith("ans")]
    assert rows
    for row in rows[:3]:
        assert row.cut is not None
        head = halves.heads[row.cut]
        assert row.tensor == halves.tails[row.cut].tensor
        (feature,) = run(session(halves.device.proto, outputs=[head.tensor]), {"x": inputs})
        fitted = folder.load_fitted("net", row.cut)
        rate = fitted.rates[row.rate_index or 0]
        symbols = fitted.symbols(fitted.components(feature), rate)
        sizes = [len(CODERS["ans"]().encode(one, rate.coder_tables["ans"])) for one in symbols]
        assert row.payload_bytes == np.mean(sizes)
        tail = Tail(model, halves.tails[row.cut], threads=1)
        outputs = tail.run(fitted.restored(symbols, rate))
        assert row.choose.accuracy == np.mean(outputs.argmax(axis=1) == labels)


def test_only_rates_worth_the_choose_set_are_run(made: tuple[PlanRecord, PlanFolder]) -> None:
    record, _ = made
    points = {(c.cut, c.rate_index) for c in splits(record)}
    floats = {
        (c.cut, c.rate_index)
        for c in record.candidates
        if c.route is Route.SPLIT and c.variant == "net"
    }
    assert points
    assert points < floats
    assert all(c.choose.n == record.sets.choose for c in splits(record))
    shared = {row.index for row in record.variants[1].cuts}
    assert {cut for cut, _ in points} <= shared
    # What is fused into a convolution in integers cannot be cut out of it.
    inner = {row.index for row in record.variants[0].cuts if row.tensor in ("c1", "c2")}
    assert inner
    assert not inner & shared


def test_an_int8_head_is_deployed_and_answers_as_the_plan_says(
    made: tuple[PlanRecord, PlanFolder], tmp_path: Path
) -> None:
    record, folder = made
    row = splits(record)[0]
    bundle, error = write_deployment(folder, row, tmp_path / "bundle")
    assert error is not None
    assert error < 1e-3
    assert bundle.manifest.split is not None
    assert (bundle.manifest.split.cut, bundle.manifest.split.tensor) == (row.cut, row.tensor)
    head = onnx.load(tmp_path / "bundle" / "head.onnx")
    tail = onnx.load(tmp_path / "bundle" / "tail.onnx")
    assert weight_bearing(head).int8
    assert not weight_bearing(tail).int8
    inputs, labels, _ = choose_inputs()
    client = EdgeClient(bundle, Loopback(CloudService(bundle)), local=False)
    answers = [client.answer(one) for one in inputs]
    payloads = [answer.traffic.frame_bytes_up - 12 for answer in answers]
    assert np.mean(payloads) == row.payload_bytes
    hits = [answer.top[0][0] == label for answer, label in zip(answers, labels, strict=True)]
    assert np.mean(hits) == row.choose.accuracy


def test_the_int8_local_route_is_deployed(
    made: tuple[PlanRecord, PlanFolder], tmp_path: Path
) -> None:
    record, folder = made
    bundle, _ = write_deployment(folder, record.candidate("net-int8/local"), tmp_path / "bundle")
    assert weight_bearing(onnx.load(tmp_path / "bundle" / "model.onnx")).int8
    pixels, _ = pictures(8, seed=5)
    (exact,) = run(session(int8_of(folder).proto), {"x": inputs_of(pixels)})
    client = EdgeClient(bundle, None, deadline_s=None)
    found = [client.answer(one).top[0][0] for one in inputs_of(pixels)]
    assert found == exact.argmax(axis=1).tolist()


def test_a_plan_asked_for_again_does_not_calibrate_again(tmp_path: Path) -> None:
    settings = Settings(
        rates=1, cuts="4", table_examples=20, int8_examples=16, transforms=("pca1",)
    )
    first = planned(array_variant(120), tmp_path, settings)
    again = planned(array_variant(120), tmp_path, settings)
    assert any("calibrating" in stage.name for stage in first.stages)
    assert not any("calibrating" in stage.name for stage in again.stages)
    assert again.candidate("net-int8/local").choose == first.candidate("net-int8/local").choose


def test_what_cannot_be_quantized_is_planned_in_floating_point(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4] x) => (float[N, 4] y) {a = Sin(x) b = Neg(a) c = Tanh(b) y = Neg(c)}"""
    x = np.random.default_rng(0).uniform(-1, 1, size=(160, 4)).astype(np.float32)
    task = array_task("largest", x, x.argmax(axis=1))
    model = load(onnx.parser.parse_model(text))
    variant = Variant(name="net", source="net.onnx", model=model, task=task)
    settings = replace(SETTINGS, rates=1, cuts="2")
    record = planned(variant, tmp_path, settings)
    assert [row.name for row in record.variants] == ["net"]
    assert "net has no int8 variant: nothing with weights" in record.explanation


def test_a_name_that_the_int8_variant_needs_is_refused(tmp_path: Path) -> None:
    one, other = array_variant(40), array_variant(40)
    taken = Variant(name="net-int8", source="b.onnx", model=other.model, task=one.task)
    with pytest.raises(PlanError, match="net-int8"):
        plan([one, taken], PLACES, Constraints(), Objective.BYTES, tmp_path, settings=SETTINGS)


def test_numbers_must_hold_float() -> None:
    with pytest.raises(PlanError, match="numbers"):
        Settings(numbers=("int8",))
