from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError, MissingExtra, StorageError
from narrows.measure.graph_builder import Builder
from narrows.measure.loadgen import LoadGenRecord, Scenario, read_summary, run_loadgen

INVALID = """================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Offline
Mode     : PerformanceOnly
Samples per second: 81970.9
Result is : INVALID
  Min duration satisfied : NO
  Min queries satisfied : Yes
Recommendations:
 * Increase expected QPS so the loadgen pre-generates a larger (coalesced) query.
Early Stopping Result:
 * Processed at least 64 queries (76811).

================================================
Additional Stats
================================================
50.00 percentile latency (ns)   : 6869720
90.00 percentile latency (ns)   : 13346199
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = Builder(shape=(256,), rng=np.random.default_rng(0))
    value = "x"
    for _ in range(3):
        value = graph.op("MatMul", value, graph.weight(256, 256))
    path = tmp_path_factory.mktemp("nets") / "net.onnx"
    onnx.save(graph.model(value), path)
    return path


@pytest.mark.parametrize("scenario", list(Scenario))
def test_loadgen_drives_the_model_and_judges(
    scenario: Scenario, network: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mlperf_loadgen")
    logs = tmp_path / "new" / "logs"
    record = run_loadgen(network, scenario=scenario, seconds=0.3, samples=100, logs=logs)
    assert record.valid
    assert record.reasons == ()
    assert not record.by_the_rules
    assert record.samples >= 100
    assert 0 < record.median_s <= record.p90_s < 5
    assert record.samples_per_s > 0
    assert record.logs == str(logs)
    assert (logs / "mlperf_log_detail.txt").is_file()
    wanted = {"single-stream": "SingleStream", "offline": "Offline"}[scenario]
    assert record.summary["Scenario"] == wanted
    assert record.summary["min_duration (ms)"] == "300"
    assert from_dict(LoadGenRecord, to_dict(record)) == record
    # it times the answers of one query after another, or of all at once
    if scenario is Scenario.SINGLE_STREAM:
        assert record.median_s * record.samples_per_s < 0.1 * record.samples
    else:
        assert record.p90_s * record.samples_per_s > 0.5 * record.samples


def test_a_run_that_does_not_count_says_why() -> None:
    record = read_summary(
        INVALID, scenario=Scenario.OFFLINE, by_the_rules=False, samples=10, logs=None
    )
    assert not record.valid
    assert record.reasons == (
        "Increase expected QPS so the loadgen pre-generates a larger (coalesced) query.",
    )
    assert (record.median_s, record.p90_s) == (0.00686972, 0.013346199)
    with pytest.raises(MeasureError, match="Result is"):
        read_summary("", scenario=Scenario.OFFLINE, by_the_rules=False, samples=1, logs=None)


def test_what_cannot_be_driven_is_told(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MeasureError, match="no model file"):
        run_loadgen(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x00garbage")
    with pytest.raises(MeasureError, match=r"LoadGen gave up: .*does not take the file"):
        run_loadgen(tmp_path / "broken.onnx", seconds=0.1, samples=10)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="taken"):
        run_loadgen(network, seconds=0.1, samples=10, logs=tmp_path / "taken" / "logs")
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingExtra, match=r"narrows\[loadgen\]"):
        run_loadgen(network)
