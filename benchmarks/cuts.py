"""Every cut of more than twenty networks: head then tail against the whole, cuts by brute force.

    python benchmarks/cuts.py [--networks NAME ...] [--out results/cuts.json]

Networks come from torchvision and timm with random weights, brought to life on random inputs
(a network that gives the same for every sample shows nothing, and is refused), at small input
sizes; one has trained weights. For each it is checked that

* the cuts, and the places refused though nothing else crosses, are exactly the tensors whose
  removal separates input from output;
* at every cut head then tail gives the whole's bits with the runtime's optimisations off, and at
  most 1e-5 of max |y| off with them on (quantized networks: the same bits);

and the table says how many cuts there are, how far off they were, and how long loading took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from cut_networks import NETWORKS
from narrows.config import write_atomic
from narrows.graph import check_equal, find_cuts, load, run, session
from narrows.measure.environment import environment
from narrows.testing.brute_force import separating


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was found for one network.

    Args:
        network: Its name.
        nodes: Nodes of its graph.
        cuts: Valid cuts, input and output included.
        useful: Cuts that no other dominates.
        refused: Places that are not cuts.
        brute_force: Whether the cuts are those of brute force.
        exact: Cuts where head then tail gave the whole's bits, optimisations off.
        exact_optimised: The same with optimisations on.
        error_optimised: Largest difference over largest output, optimisations on.
        failures: What went wrong, by cut.
        load_s: Seconds to load and find the cuts.
        total_s: Seconds for everything.
    """

    network: str
    nodes: int
    cuts: int
    useful: int
    refused: int
    brute_force: bool
    exact: int
    exact_optimised: int
    error_optimised: float
    failures: tuple[str, ...]
    load_s: float
    total_s: float

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return self.brute_force and not self.failures


def examine(name: str, proto: onnx.ModelProto) -> Row:
    """Load a network, find its cuts, and check every one of them."""
    began = time.perf_counter()
    model = load(proto)
    cuts = find_cuts(model)
    load_s = time.perf_counter() - began
    alone = {cut.tensor for cut in cuts} | {p.tensor for p in cuts.refused if not p.crossing}
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(model.input.at(2)).astype(model.input.dtype)
    feeds = {model.input.name: samples}
    is_quantized = any(node.op_type == "QuantizeLinear" for node in model.flow.nodes)
    exact = {False: 0, True: 0}
    worst, failures = 0.0, []
    for optimise in (False, True):
        whole = run(session(model.proto, optimise=optimise), feeds)
        for cut in cuts:
            try:
                found = check_equal(model, cut, samples, optimise=optimise, whole=whole)
                exact[optimise] += found.exact
                worst = max(worst, found.error)
                if is_quantized and not found.exact:
                    failures.append(f"{cut.index} {cut.tensor}: not exact, {found.error:.1e}")
            except ValueError as error:
                failures.append(f"{cut.index} {cut.tensor}: {error}")
    return Row(
        network=name,
        nodes=len(model.flow.nodes),
        cuts=len(cuts),
        useful=len(cuts.useful),
        refused=len(cuts.refused),
        brute_force=alone == separating(model.proto),
        exact=exact[False],
        exact_optimised=exact[True],
        error_optimised=worst,
        failures=tuple(failures),
        load_s=load_s,
        total_s=time.perf_counter() - began,
    )


def examine_all(names: Sequence[str]) -> Iterator[Row]:
    """Examine networks by name, one after the other."""
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = NETWORKS[name]()
        yield examine(name, proto)


def line(row: Row) -> str:
    """A row of the table."""
    return (
        f"| {row.network} | {row.nodes} | {row.cuts} | {row.useful} | {row.refused} | "
        f"{'yes' if row.brute_force else 'NO'} | {row.exact} | {row.exact_optimised} | "
        f"{row.error_optimised:.1e} | {row.load_s:.2f} | {'' if row.good else 'FAILED'} |"
    )


def main() -> int:
    """Examine, print the table as it grows, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | nodes | cuts | useful | refused | brute force agrees | exact | ", end="")
    print("exact optimised | worst optimised | load s | |")
    print("|" + " --- |" * 11)
    rows = []
    for row in examine_all(arguments.networks):
        rows.append(row)
        print(line(row), flush=True)
        for failure in row.failures[:5]:
            print(f"  {failure}", file=sys.stderr)
    good = sum(row.good for row in rows)
    print(f"\n{good} of {len(rows)} networks, {sum(row.cuts for row in rows)} cuts")
    if arguments.out is not None:
        record = {
            "networks": [asdict(row) for row in rows],
            "environment": asdict(environment()),
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(arguments.out, json.dumps(record, indent=1) + "\n")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
