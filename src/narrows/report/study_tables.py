"""The tables of a study as Markdown, to be put into a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from narrows.files import folders, write_atomic
from narrows.measure.intervals import Estimate
from narrows.report.study_scene import StudyScene
from narrows.study.cells import runtime_title, threads_text
from narrows.study.claims import Claim, answer, energy_j, time_ratio
from narrows.study.record import MeasuredRecord
from narrows.study.settings import ORIGINAL, TORCH
from narrows.units import bytes_text, joules_text, macs_text, percent_text, seconds_text

NAME: Final = "tables.md"

Row = list[str]


def write_tables(scene: StudyScene, folder: str | Path) -> Path:
    """Write all tables into one file of a folder, which is made if it is not there.

    Returns:
        The file.

    Raises:
        StorageError: It cannot be written.
    """
    path = Path(folder) / NAME
    with folders(path.parent):
        write_atomic(path, tables_text(scene))
    return path


def tables_text(scene: StudyScene) -> str:
    """All tables of a study."""
    parts = [f"# {_plain(scene.title)}", f"Measured on {_plain(scene.scope)}."]
    parts += [
        "## The claim: −75 % size, but 1.45 × slower",
        "\n".join(f"* {_plain(line)}" for line in answer(scene.claims)),
    ]
    parts.append(_claims(scene.claims))
    parts += ["## Size", _sizes(scene)]
    for threads in scene.threads:
        parts += [f"## Time of one inference, {threads_text(threads)}", _times(scene, threads)]
    if accuracies := _accuracies(scene):
        parts += ["## Accuracy", accuracies]
    parts += ["## Energy of one inference", _energies(scene)]
    if scene.failed:
        lines = [f"* {_plain(text)}" for text in scene.failures()]
        parts += ["## Could not be measured", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _claims(found: Sequence[Claim]) -> str:
    head = ["variant", "runtime", "threads", "networks", "size", "time ×", "slower", "faster"]
    head += ["not told apart", "accuracy, points"]
    return _table(
        head,
        [
            [
                claim.variant,
                runtime_title(claim.runtime),
                str(claim.threads),
                str(claim.networks),
                _spread(claim.size, lambda value: f"{100 * (value - 1):+.1f} %"),
                _spread(claim.time, lambda value: f"{value:.2f}"),
                str(len(claim.slower)),
                str(len(claim.faster)),
                str(len(claim.undecided)),
                "–" if claim.drop is None else _points(claim.drop),
            ]
            for claim in found
        ],
        texts=2,
    )


def _points(drop: Estimate) -> str:
    return f"{-100 * drop.value:+z.1f} ({-100 * drop.high:+z.1f} to {-100 * drop.low:+z.1f})"


def _spread(found: Estimate, text: Callable[[float], str]) -> str:
    return f"{text(found.value)} ({text(found.low)} to {text(found.high)})"


def _sizes(scene: StudyScene) -> str:
    rows = []
    for network in scene.networks:
        base = scene.any_of(network, ORIGINAL)
        row = [network, "–" if base is None else macs_text(base.facts.macs)]
        for variant in scene.variants:
            found = scene.any_of(network, variant)
            row.append("–" if found is None else bytes_text(found.facts.size.file_bytes))
        rows.append(row)
    return _table(["network", "work", *scene.variants], rows, texts=1)


def _times(scene: StudyScene, threads: int) -> str:
    """A row for each network; beside a variant's time its ratio to the original's."""
    columns = [
        (variant, runtime)
        for runtime in scene.runtimes
        for variant in scene.variants
        if any((r.cell.variant, r.cell.runtime) == (variant, runtime) for r in scene.records)
    ]
    rows = []
    for network in scene.networks:
        found = [scene.get(network, *column, threads) for column in columns]
        rows.append([network, *("–" if one is None else _time(one) for one in found)])
    head = [_column(variant, runtime) for variant, runtime in columns]
    return _table(["network", *head], rows, texts=1)


def _column(variant: str, runtime: str) -> str:
    title = runtime_title(runtime)
    return title if runtime == TORCH else f"{title}, {variant}"


def _time(record: MeasuredRecord) -> str:
    low, high = record.latency.interval
    half = max(high - record.latency.median, record.latency.median - low)
    text = f"{seconds_text(record.latency.median)} ± {100 * half / record.latency.median:.1f} %"
    if record.ratio is None:
        return text
    ratio = time_ratio(record)
    return f"{text}, × {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _accuracies(scene: StudyScene) -> str:
    rows = []
    for record in scene.records:
        score, cell = record.facts.score, record.cell
        if score is None or score.accuracy is None or cell.threads != scene.threads[0]:
            continue
        means = score.averages
        shares = (None,) * 3 if means is None else (means.precision, means.recall, means.f1)
        rows.append(
            [
                cell.network,
                cell.variant,
                runtime_title(cell.runtime),
                str(score.n),
                score.accuracy.text(),
                "–" if score.drop is None else _points(score.drop),
                *("–" if share is None else percent_text(share.value) for share in shares),
                "–" if score.ece is None else percent_text(score.ece.value),
                "–" if score.agreement is None else percent_text(score.agreement),
            ]
        )
    if not rows:
        return ""
    head = ["network", "variant", "runtime", "n", "accuracy", "change, points", "precision"]
    return _table([*head, "recall", "F1", "calibration error", "agreement"], rows, texts=3)


def _energies(scene: StudyScene) -> str:
    if not any(energy_j(record) is not None for record in scene.records):
        reasons = {getattr(record.energy, "reason", "") for record in scene.records}
        return f"Not measured: {_plain('; '.join(sorted(reasons)))}."
    rows: list[Row] = []
    for record in scene.records:
        spent, cell = energy_j(record), record.cell
        if spent is not None:
            row = [cell.network, cell.variant, runtime_title(cell.runtime), str(cell.threads)]
            rows.append([*row, joules_text(spent)])
    return _table(["network", "variant", "runtime", "threads", "energy"], rows, texts=3)


def _table(head: Row, rows: Sequence[Row], *, texts: int) -> str:
    """A Markdown table; all but the first `texts` columns are numbers."""
    rule = ["---"] * texts + ["--:"] * (len(head) - texts)
    lines = [head, rule, *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark, written in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("*", "\\*")):
        text = text.replace(mark, written)
    return text
