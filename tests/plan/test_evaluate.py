from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from plan_nets import array_variant, network, picture_variant, shuffled
from plan_samples import PLACES

from narrows.coding import CODERS
from narrows.config import read_json
from narrows.errors import PlanError, StorageError, TaskError
from narrows.graph.cuts import find_cuts
from narrows.graph.ort import run, session
from narrows.metrics import Metric
from narrows.plan import timing
from narrows.plan.candidate import Candidate, Route
from narrows.plan.choose import choose
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.record import PlanRecord
from narrows.plan.settings import Settings
from narrows.plan.store import PlanFolder
from narrows.plan.variant import Variant
from narrows.task import array_task

SETTINGS = Settings(numbers=("float",), rates=4, table_examples=40, cuts="all", screen_share=1.0)
CONSTRAINTS = Constraints(max_drop=0.1)


@pytest.fixture(autouse=True)
def _by_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times by MACs alone: the samples' profiles hold no rates of kernels."""
    monkeypatch.setattr(
        timing, "predict_head_s", lambda costs, _: 1e-5 + sum(cost.macs for cost in costs) / 1e9
    )


def planned(variant: Variant, folder: Path, **changes: object) -> PlanRecord:
    options = {"settings": SETTINGS, "constraints": CONSTRAINTS, **changes}
    settings, constraints = options.pop("settings"), options.pop("constraints")
    return plan(
        [variant], PLACES, constraints, Objective.LATENCY, folder, settings=settings, **options
    )


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlanRecord, Path]:
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "predict_head_s", lambda costs, _: 1e-5 + len(costs) * 1e-4)
        return planned(array_variant(), folder), folder


def by_rate(record: PlanRecord, cut: int, coder: str) -> list[Candidate]:
    return sorted(
        (c for c in record.candidates if c.cut == cut and c.codec and c.codec.name.endswith(coder)),
        key=lambda c: c.rate_index or 0,
    )


def test_every_cut_rate_and_coder_is_a_candidate_beside_local_and_raw(
    arrays: tuple[PlanRecord, Path],
) -> None:
    record, _ = arrays
    cuts = {row.index for row in record.variants[0].cuts if row.planned}
    assert cuts == set(range(1, len(record.variants[0].cuts) - 1))
    assert {c.cut for c in record.candidates if c.route is Route.SPLIT} == cuts
    assert len(record.candidates) == 1 + 2 + len(cuts) * 4 * 2
    assert len({c.id for c in record.candidates}) == len(record.candidates)


def test_coarser_steps_cost_fewer_bytes_and_more_divergence(
    arrays: tuple[PlanRecord, Path],
) -> None:
    record, _ = arrays
    for cut in (2, 4, 6):
        curve = by_rate(record, cut, "ans")
        sizes = [c.payload_bytes for c in curve]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] < 0.7 * sizes[0]
        finest, coarsest = curve[0].choose, curve[-1].choose
        assert finest.logit_divergence is not None
        assert coarsest.logit_divergence is not None
        assert finest.logit_divergence < coarsest.logit_divergence
        assert finest.agreement is not None
        assert finest.agreement > 0.9


def test_local_and_raw_answer_exactly_like_the_model(arrays: tuple[PlanRecord, Path]) -> None:
    record, _ = arrays
    exact = [c for c in record.candidates if c.route in (Route.LOCAL, Route.RAW)]
    assert len(exact) == 3
    for candidate in exact:
        assert candidate.choose == record.variants[0].choose
        assert candidate.choose.agreement == 1.0
        assert candidate.choose_drop.value == 0.0
    assert {c.payload_bytes for c in exact} >= {0.0, 3 * 16 * 16 * 4.0}


def test_payloads_are_what_the_stored_tables_give(arrays: tuple[PlanRecord, Path]) -> None:
    """Sizes are coded for real: a row can be rebuilt from the folder byte for byte."""
    record, path = arrays
    variant, folder = array_variant(), PlanFolder(path=path)
    task, cut = variant.task, find_cuts(variant.model)[4]
    inputs, _ = task.inputs(task.choose, 0, len(task.choose))
    (feature,) = run(session(variant.model.proto, outputs=[cut.tensor]), {"x": inputs})
    fitted = folder.load_fitted("net", 4)
    for candidate in by_rate(record, 4, "huffman"):
        rate = fitted.rates[candidate.rate_index or 0]
        symbols = fitted.symbols(fitted.components(feature), rate)
        coder, table = CODERS["huffman"](), rate.coder_tables["huffman"]
        sizes = [len(coder.encode(one, table)) for one in symbols]
        assert len(sizes) == candidate.choose.n
        assert np.mean(sizes) == candidate.payload_bytes


def test_the_chosen_one_is_what_choosing_again_gives(arrays: tuple[PlanRecord, Path]) -> None:
    record, path = arrays
    again = choose(record.candidates, record.constraints, record.objective, PLACES)
    assert record.chosen == again.id
    assert record.chosen in record.explanation or "net" in record.explanation
    assert read_json(path / "plan.json", PlanRecord) == record
    assert not list((path / "progress").glob("*.*"))


def test_the_report_set_is_read_for_the_frontier_and_the_choice_alone(
    arrays: tuple[PlanRecord, Path],
) -> None:
    record, _ = arrays
    reported = {c.id for c in record.candidates if c.report is not None}
    assert record.chosen in reported
    assert reported <= {*record.frontier, record.chosen}
    for candidate in record.candidates:
        if candidate.report is not None:
            assert candidate.report.n == record.sets.report == 120


def test_device_macs_hold_the_transform_as_well(arrays: tuple[PlanRecord, Path]) -> None:
    record, _ = arrays
    rows = {row.index: row for row in record.variants[0].cuts}
    for candidate in record.candidates:
        if candidate.cut is not None:
            assert candidate.cost.device_macs > rows[candidate.cut].head_macs


def test_an_interrupted_plan_goes_on_and_ends_the_same(
    tmp_path: Path, arrays: tuple[PlanRecord, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "predict_head_s", lambda costs, _: 1e-5 + len(costs) * 1e-4)
    stages: list[str] = []

    def stop(title: str, done: int, total: int) -> None:
        if "report" in title and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        planned(array_variant(), tmp_path, watcher=stop)
    assert not (tmp_path / "plan.json").exists()
    with pytest.raises(PlanError, match="unfinished"):
        PlanFolder(path=tmp_path).read()
    record = planned(array_variant(), tmp_path, watcher=lambda t, d, n: stages.append(f"{t} {n}"))
    assert any("fitting 0 cuts" in stage for stage in stages)
    assert any("cuts and rates, screen 0" in stage for stage in stages)
    finished, _ = arrays
    assert [replace(c, cost=finished.candidates[0].cost) for c in record.candidates] == [
        replace(c, cost=finished.candidates[0].cost) for c in finished.candidates
    ]


def test_a_plan_in_the_folder_of_another_does_not_take_its_results_for_other_data(
    tmp_path: Path,
) -> None:
    few = replace(SETTINGS, cuts="4", report_examples=0)
    variant = array_variant()
    before = planned(variant, tmp_path, settings=few)
    task = variant.task
    labels = task.choose.labels.copy()
    labels[:20] = np.roll(labels[:20], 1)
    corrected = replace(task, choose=replace(task.choose, labels=labels))
    after = planned(replace(variant, task=corrected), tmp_path, settings=few)
    fresh = planned(replace(variant, task=corrected), tmp_path / "fresh", settings=few)
    scores = [{c.id: c.choose for c in record.candidates} for record in (before, after, fresh)]
    assert scores[1] == scores[2] != scores[0]


def test_a_metric_that_gives_no_number_stops_the_plan(tmp_path: Path) -> None:
    variant = array_variant()
    metric = Metric(name="nothing", score=lambda _outputs, _labels: float("nan"))
    broken = replace(variant, task=replace(variant.task, metric=metric))
    with pytest.raises(TaskError, match="metric 'nothing' gave nan for"):
        planned(broken, tmp_path, settings=replace(SETTINGS, cuts="none"))
    assert not (tmp_path / "plan.json").exists()


def test_a_plan_at_other_places_runs_no_network_again_but_the_whole_one(tmp_path: Path) -> None:
    few = replace(SETTINGS, cuts="4")
    first = planned(array_variant(), tmp_path, settings=few)
    stages: list[str] = []

    def watch(title: str, _: int, total: int) -> None:
        stages.append(f"{title} {total}")

    slow = replace(PLACES, link=replace(PLACES.link, bandwidth_up_bits_per_s=1e4))
    second = plan(
        [array_variant()],
        slow,
        CONSTRAINTS,
        Objective.LATENCY,
        tmp_path,
        settings=few,
        watcher=watch,
    )
    assert {"net: fitting 0 cuts 0", "net: cuts and rates, screen 0"} <= set(stages)
    for old, new in zip(first.candidates, second.candidates, strict=True):
        assert old.choose == new.choose
        if new.route is not Route.LOCAL:
            assert new.cost.send.seconds > 50 * (old.cost.send.seconds - 0.01)


def test_what_is_screened_out_carries_its_n_and_cannot_be_chosen(tmp_path: Path) -> None:
    settings = replace(SETTINGS, cuts="2,4", screen_share=0.125)
    record = planned(array_variant(400), tmp_path, settings=settings)
    seen = {c.choose.n for c in record.candidates}
    assert seen == {32, 100}
    for candidate in record.candidates:
        if candidate.choose.n == 32:
            assert candidate.payload_n == 16
            assert not candidate.on_frontier
            assert candidate.report is None
    assert record.candidate(record.chosen or "").choose.n == 100
    assert all(record.candidate(i).choose.n == 100 for i in record.frontier)


def test_other_settings_do_not_reuse_what_is_there(tmp_path: Path) -> None:
    few = replace(SETTINGS, cuts="4", report_examples=0)
    first = planned(array_variant(), tmp_path, settings=few)
    second = planned(array_variant(), tmp_path, settings=replace(few, rates=2))
    assert len(by_rate(first, 4, "ans")) == 4
    assert len(by_rate(second, 4, "ans")) == 2


def test_a_model_that_guesses_stops_the_plan_and_asks_about_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"scores 0\.\d+ \(top1\).*guessing scores 0\.25.*prepro"):
        planned(shuffled(array_variant()), tmp_path)
    assert not (tmp_path / "plan.json").exists()


def test_a_feature_with_nan_is_named(tmp_path: Path) -> None:
    proto = network()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        proto.graph.node.append(node)
        if node.output[0] == "r1":
            proto.graph.node.append(onnx.helper.make_node("Log", ["c1"], ["broken"]))
            proto.graph.node.append(onnx.helper.make_node("IsNaN", ["broken"], ["isnan"]))
            proto.graph.node.append(
                onnx.helper.make_node("Where", ["isnan", "one", "one"], ["ones"])
            )
            proto.graph.node.append(onnx.helper.make_node("Mul", ["broken", "ones"], ["r1b"]))
    for node in proto.graph.node:
        if node.output[0] == "c2":
            node.input[0] = "r1b"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), np.float32), "one"))
    with pytest.raises(PlanError, match=r"tensor '\w+' .* NaN or infinite"):
        planned(array_variant(model=proto), tmp_path)


def test_picture_codecs_stand_beside_the_cuts(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        cuts="4",
        pictures=("jpeg", "webp"),
        scales=(1.0, 0.5),
        qualities={"jpeg": (10, 90), "webp": (80,)},
    )
    record = planned(picture_variant(), tmp_path, settings=settings)
    images = {c.id.split("/")[1]: c for c in record.candidates if c.route is Route.IMAGE}
    assert set(images) == {
        f"{name}{scale}" for name in ("jpeg-q10", "jpeg-q90", "webp-q80") for scale in ("", "-s50")
    }
    assert images["jpeg-q10"].payload_bytes < images["jpeg-q90"].payload_bytes
    assert images["jpeg-q90-s50"].payload_bytes < images["jpeg-q90"].payload_bytes
    assert (images["jpeg-q90"].choose.agreement or 0) > 0.9
    assert all(c.cost.device_macs == 0 for c in images.values())
    raw = next(c for c in record.candidates if c.id == "net/pixels")
    assert raw.payload_bytes == 16 * 16 * 3


def test_moments_in_several_passes_give_the_same_tables(tmp_path: Path) -> None:
    few = replace(SETTINGS, cuts="2,4,6", report_examples=0)
    one = planned(array_variant(), tmp_path / "one", settings=few)
    many = planned(
        array_variant(), tmp_path / "many", settings=replace(few, moments_bytes=1, tails_bytes=1)
    )
    for first, second in zip(one.candidates, many.candidates, strict=True):
        assert first.choose == second.choose
        assert first.payload_bytes == second.payload_bytes


def test_a_regression_is_planned_by_its_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    variant = array_variant()
    x = np.stack([np.asarray(e.source) for e in variant.task.fit] * 4)
    x = (x + rng.normal(0, 0.1, x.shape)).astype(np.float32)
    (outputs,) = run(session(variant.model.proto), {"x": x})
    task = array_task("values", x, outputs + rng.normal(0, 0.1, outputs.shape), metric="rmse")
    record = planned(
        replace(variant, task=task),
        tmp_path,
        settings=replace(SETTINGS, cuts="2,4"),
        constraints=Constraints(max_drop=0.05),
    )
    best = by_rate(record, 2, "ans")[0]
    assert best.choose.agreement is None
    assert best.choose.accuracy < 0
    assert best.choose_drop.low <= best.choose_drop.value <= best.choose_drop.high
    with pytest.raises(PlanError, match="min_agreement"):
        choose(record.candidates, Constraints(min_agreement=0.9), Objective.BYTES, PLACES)


def test_when_nothing_fits_the_record_says_what_is_nearest(tmp_path: Path) -> None:
    record = planned(
        array_variant(),
        tmp_path,
        settings=replace(SETTINGS, cuts="4"),
        constraints=Constraints(max_latency_s=1e-6),
    )
    assert record.chosen is None
    assert "nearest is net/" in record.explanation
    assert "max_latency_s" in record.explanation


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="disk is full"):
        planned(array_variant(), tmp_path)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("99", "cut"), ("0", "input or output"), ("auto:x", "auto:20"), ("nowhere", "nowhere")],
)
def test_cuts_that_cannot_be_planned_are_refused(tmp_path: Path, wanted: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        planned(array_variant(), tmp_path, settings=replace(SETTINGS, cuts=wanted))
