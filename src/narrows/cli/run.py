"""narrows run: the device half of a bundle over files, a folder or a stream."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from narrows.errors import InputError, TransportError

if TYPE_CHECKING:
    from narrows.runtime.answer import Answer
    from narrows.runtime.bundle import Bundle
    from narrows.runtime.edge import EdgeClient


class Stream(StrEnum):
    """What comes on standard input."""

    PATHS = "paths"
    FILES = "files"


def run(
    bundle: Annotated[Path, typer.Argument(help="The same bundle as the server's.")],
    inputs: Annotated[
        list[str], typer.Argument(help="Pictures or .npy files, folders, or - for standard input.")
    ],
    server: Annotated[
        str | None, typer.Option(help="host:port of `narrows serve`; without it all runs here.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0, help="Seconds an answer may take; 0 for no limit.")
    ] = 2.0,
    top: Annotated[
        int, typer.Option(min=0, max=255, help="Best classes to ask for; 0 for whole outputs.")
    ] = 5,
    local: Annotated[
        bool, typer.Option(help="Answer with the whole model here when the server does not.")
    ] = True,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one run of a network.")] = 1,
    stream: Annotated[
        Stream,
        typer.Option(help="Standard input: a path a line, or files after 4 bytes of length each."),
    ] = Stream.PATHS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Answer every input with a bundle: by the server while it can be reached in time, else here.

    Each line names the input, the best class, the route it really took, the time and the bytes.
    Exit code 0 means that every input was answered.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what matters is raised, not logged
    from narrows.runtime.bundle import read_bundle
    from narrows.runtime.edge import EdgeClient
    from narrows.runtime.serving.client import Grpc

    held = read_bundle(bundle)
    _check_server(held, server, local=local)
    bad = 0
    with ExitStack() as stack:
        link = None if server is None else stack.enter_context(Grpc(server, held))
        deadline_s = deadline or None
        client = EdgeClient(
            held, link, deadline_s=deadline_s, top=top, threads=threads, local=local
        )
        for name, answer, error in _answers(client, inputs, blobs=stream is Stream.FILES):
            if answer is None:
                bad += 1
                _print_error(name, error, as_json=as_json)
            elif as_json:
                typer.echo(json.dumps({"input": name, **_record(answer)}))
            else:
                typer.echo(_line(name, answer))
    if bad:
        raise typer.Exit(1)


def _check_server(held: Bundle, server: str | None, *, local: bool) -> None:
    from narrows.plan.candidate import Route

    route = held.manifest.route
    if server is None and not local:
        message = "--no-local without --server leaves nothing that could answer: give one of them"
        raise typer.BadParameter(message)
    if server is None and route is not Route.LOCAL:
        message = f"no --server: the {route.value} route is not used, everything runs here"
        typer.echo(message, err=True)
    host, _, port = (server or "x:1").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        message = f"--server {server!r} is not host:port, e.g. 192.168.1.20:8001"
        raise typer.BadParameter(message)


def _answers(
    client: EdgeClient, inputs: list[str], *, blobs: bool
) -> Iterator[tuple[str, Answer | None, str]]:
    """Name, answer and error of each input, as they come.

    A bad input does not end the stream, nor does a server that fails after it has answered.
    """
    from narrows.runtime.samples import samples, sources

    manifest = client.bundle.manifest
    for source in sources(inputs, manifest, sys.stdin.buffer, blobs=blobs):
        try:
            held = list(samples(source, manifest))
        except InputError as error:
            yield source.name, None, str(error)
            continue
        for name, sample in held:
            try:
                answer = client.answer(sample)
            except (InputError, TransportError) as error:
                if isinstance(error, TransportError) and client.link.remote_s is None:
                    raise  # it has never answered: so it will be with the next
                yield name, None, str(error)
            else:
                yield name, answer, ""


def _print_error(name: str, error: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"input": name, "error": error}))
    else:
        told = error if name in error else f"{name}: {error}"
        typer.echo(f"error: {_one_line(told)}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _record(answer: Answer) -> dict[str, Any]:
    from narrows.config import to_dict

    record: dict[str, Any] = {
        "route": answer.route.value,
        "top": [[place, score] for place, score in answer.top],
        "labels": list(answer.labels),
        "times": to_dict(answer.times),
        "traffic": to_dict(answer.traffic),
        "in_time": answer.in_time,
        "reason": answer.reason,
    }
    if not answer.top and answer.outputs is not None:
        record["outputs"] = [array.tolist() for array in answer.outputs]
    return record


def _line(name: str, answer: Answer) -> str:
    from narrows.units import bytes_text, seconds_text

    if answer.labels:
        what = answer.labels[0]
    elif answer.top:
        what = f"class {answer.top[0][0]}"
    else:
        arrays = answer.outputs or ()
        what = " ".join(f"{value:.5g}" for array in arrays for value in array.reshape(-1)[:8])
    traffic = answer.traffic
    crossed = (
        f"{bytes_text(traffic.frame_bytes_up)} up ({bytes_text(traffic.wire_bytes_up)} on the wire)"
    )
    late = "" if answer.in_time else "  LATE"
    why = f"  [{answer.reason}]" if answer.reason else ""
    took = seconds_text(answer.times.total_s)
    return f"{_one_line(name)}  {what}  {answer.route.value}  {took}  {crossed}{late}{why}"
