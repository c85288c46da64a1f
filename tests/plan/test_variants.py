"""A network and what was made smaller of it, in one plan: cuts, codecs, judgement, deployment."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from plan_nets import array_variant, inputs_of, network, pictures
from plan_samples import PLACES

from narrows.cli import main
from narrows.cli.deploy import write_deployment
from narrows.errors import PlanError
from narrows.graph.cuts import find_cuts
from narrows.graph.load import load
from narrows.graph.ort import run, session
from narrows.plan import timing
from narrows.plan.candidate import Route
from narrows.plan.constraints import Constraints, Objective
from narrows.plan.evaluate import plan
from narrows.plan.record import PlanRecord
from narrows.plan.settings import Settings
from narrows.plan.store import PlanFolder
from narrows.plan.variant import Variant
from narrows.runtime.bundle import Bundle, read_bundle
from narrows.runtime.cloud import CloudService
from narrows.runtime.edge import EdgeClient
from narrows.runtime.transport import Loopback
from narrows.task import Task, array_task

SETTINGS = Settings(rates=3, table_examples=40, screen_share=1.0, int8_examples=32)
SMALL = (8, 16)


@pytest.fixture(autouse=True)
def _by_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times by MACs alone: the samples' profiles hold no rates of kernels."""
    monkeypatch.setattr(
        timing, "predict_head_s", lambda costs, _: 1e-5 + sum(cost.macs for cost in costs) / 1e9
    )


def both() -> list[Variant]:
    original = array_variant()
    pruned = replace(original, name="pruned", model=load(network(*SMALL)), original="net")
    return [original, pruned]


def planned(variants: list[Variant], folder: Path, settings: Settings = SETTINGS) -> PlanRecord:
    constraints = Constraints(max_drop=0.3)
    return plan(variants, PLACES, constraints, Objective.LATENCY, folder, settings=settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlanRecord, PlanFolder]:
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "predict_head_s", lambda costs, _: 1e-5 + len(costs) * 1e-4)
        return planned(both(), folder), PlanFolder(path=folder)


def outputs_of(name: str, inputs: np.ndarray) -> np.ndarray:
    (found,) = run(session(network() if name == "net" else network(*SMALL)), {"x": inputs})
    return np.asarray(found)


def set_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    task = array_variant().task
    inputs, labels = task.inputs(task.sets[name], 0, len(task.sets[name]))
    return inputs, labels


def test_each_variant_has_its_own_cuts_work_and_score(
    made: tuple[PlanRecord, PlanFolder],
) -> None:
    record, _ = made
    names = ["net", "net-int8", "pruned", "pruned-int8"]
    assert [variant.name for variant in record.variants] == names
    assert {variant.original for variant in record.variants} == {"net"}
    assert record.originals == ("net",)
    inputs, labels = set_of("choose")
    for name in ("net", "pruned"):
        row = record.variant(name)
        cuts = find_cuts(load(network() if name == "net" else network(*SMALL)))
        assert [cut.shape for cut in row.cuts] == [cut.shape for cut in cuts]
        assert row.total_macs == cuts[-1].head_macs
        hits = outputs_of(name, inputs).argmax(1) == labels
        assert row.choose.accuracy == hits.mean()
        assert {c.route for c in record.candidates if c.variant == name} >= {
            Route.LOCAL,
            Route.SPLIT,
            Route.RAW,
        }
    assert record.variant("pruned").total_macs < 0.6 * record.variant("net").total_macs


@pytest.mark.parametrize("row", ["pruned/local", "pruned/values", "pruned-int8/local"])
def test_what_a_variant_loses_is_against_the_original(
    made: tuple[PlanRecord, PlanFolder], row: str
) -> None:
    record, folder = made
    candidate = record.candidate(row)
    inputs, labels = set_of("choose")
    proto = onnx.load(folder.model(candidate.variant))
    answered = run(session(proto), {"x": inputs})[0].argmax(1)
    if candidate.route is Route.RAW:  # run on a part
        picked = np.arange(candidate.choose.n) * len(inputs) // candidate.choose.n
        answered, inputs, labels = answered[picked], inputs[picked], labels[picked]
    exact = outputs_of("net", inputs).argmax(1)
    wanted = (exact == labels).mean() - (answered == labels).mean()
    assert candidate.choose_drop.value == pytest.approx(wanted)
    assert candidate.choose.agreement == pytest.approx((exact == answered).mean())


def test_a_cut_of_a_variant_is_judged_against_the_original(
    made: tuple[PlanRecord, PlanFolder],
) -> None:
    record, _ = made
    rows = [c for c in record.candidates if c.variant == "pruned" and c.route is Route.SPLIT]
    assert rows
    original = record.variant("net").choose.accuracy
    for row in rows:
        assert row.choose_drop.value == pytest.approx(original - row.choose.accuracy)
    assert record.candidate("local").choose_drop.value == 0


def test_the_report_set_is_read_against_the_original_too(
    made: tuple[PlanRecord, PlanFolder],
) -> None:
    record, _ = made
    inputs, labels = set_of("report")
    hits = {n: (outputs_of(n, inputs).argmax(1) == labels).mean() for n in ("net", "pruned")}
    row = record.candidate("pruned/local")
    assert row.report is not None
    assert row.report_drop is not None
    assert row.report.accuracy == hits["pruned"]
    assert row.report_drop.value == pytest.approx(hits["net"] - hits["pruned"])


def test_one_frontier_holds_all_variants(made: tuple[PlanRecord, PlanFolder]) -> None:
    record, _ = made
    on = [c for c in record.candidates if c.on_frontier]
    assert {c.variant for c in on} & {"pruned", "pruned-int8"}
    for one in on:
        assert not any(
            other.choose.n == record.sets.choose
            and other.choose.accuracy > one.choose.accuracy
            and other.payload_bytes < one.payload_bytes
            and other.cost.device_macs < one.cost.device_macs
            and other.cost.latency_s < one.cost.latency_s
            for other in record.candidates
        )


def answers(bundle: Bundle, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    client = EdgeClient(bundle, Loopback(CloudService(bundle)), local=False)
    found = [client.answer(one) for one in inputs]
    sizes = [answer.traffic.frame_bytes_up - 12 for answer in found]
    return np.array([answer.top[0][0] for answer in found]), float(np.mean(sizes))


@pytest.mark.parametrize("variant", ["pruned", "pruned-int8"])
def test_a_row_of_a_variant_is_deployed_and_its_run_agrees(
    made: tuple[PlanRecord, PlanFolder], tmp_path: Path, variant: str
) -> None:
    record, folder = made
    row = next(c for c in record.candidates if c.variant == variant and c.route is Route.SPLIT)
    bundle, _ = write_deployment(folder, row, tmp_path / "bundle")
    inputs, labels = set_of("choose")
    answered, payload_bytes = answers(bundle, inputs)
    assert (answered == labels).mean() == row.choose.accuracy
    assert payload_bytes == row.payload_bytes


def test_a_variant_needs_an_original_before_it_with_the_same_answers(tmp_path: Path) -> None:
    original, pruned = both()
    with pytest.raises(PlanError, match=r"variant of 'net': .* no variants are none"):
        planned([pruned, original], tmp_path)
    again = replace(pruned, name="again", original="pruned")
    with pytest.raises(PlanError, match=r"variant of 'pruned': .* no variants are net"):
        planned([original, pruned, again], tmp_path)
    task: Task = original.task
    shorter = replace(task, report=replace(task.report, labels=task.report.labels[::-1]))
    with pytest.raises(PlanError, match=r"other examples to report"):
        planned([original, replace(pruned, task=shorter)], tmp_path)
    narrow = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 16, 16] x) => (float[N, 3] y)'
        "{p = GlobalAveragePool(x) y = Flatten(p)}"
    )
    three = array_task("stripes", inputs_of(pictures(40)[0]), np.arange(40) % 3)
    with pytest.raises(PlanError, match=r"gives 3 outputs and net, .* 4"):
        planned([original, replace(pruned, model=load(narrow), task=three)], tmp_path)


def test_the_commands_plan_deploy_and_run_a_variant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, labels = inputs_of(pictures(160)[0]), pictures(160)[1]
    np.savez(tmp_path / "stripes.npz", x=inputs, y=labels)
    (tmp_path / "task.toml").write_text(
        'name = "stripes"\n[data]\nkind = "array"\nall = "stripes.npz"\n'
    )
    onnx.save(network(), tmp_path / "net.onnx")
    onnx.save(network(*SMALL), tmp_path / "small.onnx")
    words = ["plan", str(tmp_path / "net.onnx"), "--task", str(tmp_path / "task.toml")]
    words += ["--cuts", "4", "--rates", "2", "--max-drop", "0.3", "--device", "x86-core"]
    words += ["--numbers", "float", "-o", str(tmp_path / "plan")]
    named = ["--variant", f"pruned={tmp_path / 'small.onnx'}"]
    assert main([*words, *named]) == 0
    shown = capsys.readouterr().out
    assert "pruned/local" in shown
    assert main(["deploy", str(tmp_path / "plan"), "-o", str(tmp_path / "bundle")]) == 0
    chosen = PlanFolder(path=tmp_path / "plan").read()
    assert chosen.chosen == "pruned/local"  # the least work on the same core
    np.save(tmp_path / "one.npy", inputs[0])
    assert main(["run", str(tmp_path / "bundle"), str(tmp_path / "one.npy")]) == 0
    expected = int(outputs_of("pruned", inputs[:1]).argmax())
    assert f"class {expected}" in capsys.readouterr().out
    assert read_bundle(tmp_path / "bundle").manifest.route is Route.LOCAL
    assert main([*words, "--variant", "small.onnx"]) == 2
    assert main([*words[:2], str(tmp_path / "small.onnx"), *words[2:], *named]) == 2
