"""What a study says of "quantization: -75 % size, but 1.45 × slower", network by network.

    python benchmarks/study_claims.py STUDY [--out FILE.json]

STUDY is the folder of `narrows study`. For every variant, runtime and number of threads: size and
time over the original's (geometric mean, least and most over the networks), how many networks are
told to be slower or faster, and which. Nothing is measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from narrows.config import to_dict
from narrows.files import write_atomic
from narrows.report.study_scene import read_study
from narrows.study.cells import runtime_title
from narrows.study.claims import PAPER_SIZE_RATIO, PAPER_TIME_RATIO, Claim, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    scene = read_study(given.study)
    print(f"{len(scene.networks)} networks on {scene.scope}")
    print(f"the paper: size × {PAPER_SIZE_RATIO}, time × {PAPER_TIME_RATIO}\n")
    print(f"{'variant':<10} {'runtime':<13} threads  size ×  time ×  (networks slower/faster/?)")
    for claim in scene.claims:
        print(row(claim))
    print()
    for line in answer(scene.claims):
        print(f"* {line}")
    for claim in scene.claims:
        where = f"{claim.variant}, {runtime_title(claim.runtime)}, {claim.threads}"
        if claim.slower:
            print(f"slower ({where}): {', '.join(claim.slower)}")
        if claim.undecided:
            print(f"not told apart ({where}): {', '.join(claim.undecided)}")
    if given.out is not None:
        write_atomic(given.out, json.dumps(to_dict(scene.claims), indent=1) + "\n")


def row(claim: Claim) -> str:
    counts = f"{len(claim.slower)}/{len(claim.faster)}/{len(claim.undecided)}"
    time = f"{claim.time.value:.2f} ({claim.time.low:.2f} to {claim.time.high:.2f})"
    return (
        f"{claim.variant:<10} {runtime_title(claim.runtime):<13} {claim.threads:>7}"
        f"  {claim.size.value:>6.3f}  {time:<24} {counts}"
    )


if __name__ == "__main__":
    main()
