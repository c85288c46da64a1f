"""narrows serve: the cloud half of a bundle, until it is told to stop."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder written by `narrows deploy`.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port; 0 lets the system choose.")
    ] = 8001,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Requests computed at once; default one a processor.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one run of a network.")] = 1,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that requests under way get after SIGTERM.")
    ] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="The ready line as JSON.")] = False,
) -> None:
    """Serve the cloud half of a bundle over gRPC (Open Inference Protocol, version 2).

    One line with the address is printed when it is ready. The connection is not encrypted and
    callers are not asked who they are: listen on an address that only your devices reach.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what matters is raised, not logged
    from narrows.runtime.bundle import read_bundle
    from narrows.runtime.cloud import CloudService
    from narrows.runtime.serving.server import Server

    held = read_bundle(bundle)
    server = Server(CloudService(held, threads=threads), host=host, port=port, workers=workers)
    if as_json:
        models = list(server.models)
        ready = json.dumps({"address": server.address, "models": models, "bundle": held.id.hex()})
    else:
        names = " and ".join(server.models)
        ready = f"serving {names} of bundle {held.id.hex()} at {server.address}"
    with server:
        server.run_until_signal(lambda: typer.echo(ready), grace_s=grace)
    typer.echo("stopped", err=True)
