"""`otelkit ui`: receives telemetry on this machine and shows it in a browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import typer

EXTRA = "otelkit ui needs: pip install 'otelkit[ui]'"


def ui(
    port: int = typer.Option(4318, "--port", help="For OTLP/HTTP and the page; where it is taken, the next free one."),
    grpc_port: int = typer.Option(4317, "--grpc-port", help="For OTLP/gRPC, with otelkit[grpc]; as --port."),
    db: Path = typer.Option(None, "--db", metavar="FOLDER", help="Keep it in a folder; default: in memory."),
    open_page: bool = typer.Option(False, "--open", help="Open the page in a browser."),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on; beyond loopback it needs --token."),
    token: str = typer.Option(
        "", "--token", envvar="OTELKIT_UI_TOKEN", help="What every request must say.", show_envvar=False
    ),
    cors_origin: list[str] = typer.Option(
        [], "--cors-origin", metavar="URL", help="A site whose pages may send telemetry; again for more."
    ),
    max_mb: int = typer.Option(
        0, "--max-mb", min=0, help="Keep so many megabytes at most. Default: 4096, in memory 256."
    ),
    max_rows: int = typer.Option(
        20_000_000, "--max-rows", min=1000, help="Keep so many spans, logs and points at most."
    ),
    max_hours: float = typer.Option(
        168.0, "--max-hours", min=0.01, help="Keep nothing that came in earlier than so long ago."
    ),
) -> None:
    """Receive OpenTelemetry on this machine and show it in a browser.

    Takes OTLP over HTTP from any sender, on port 4318, where senders look
    for it. Ends with Ctrl-C.

    Example: otelkit ui --db telemetry.db --open
    """
    try:
        from otelkit.viewer.server import Options, PortTaken, bound, is_loopback
        from otelkit.viewer.store import Bounds, DatabaseInUse
    except ImportError as error:
        raise _failed(f"{EXTRA} ({error})") from None
    if not is_loopback(host) and not token:
        raise _failed(f"beyond loopback everyone could read what is shown: --host {host} needs --token")
    try:
        listening = bound(host, port)
    except (PortTaken, OSError) as error:
        raise _failed(str(error)) from None
    megabytes = max_mb or (4096 if db is not None else 256)
    options = Options(
        host=host,
        port=port,
        grpc_port=grpc_port,
        database=db,
        bounds=Bounds(rows=max_rows, bytes=megabytes << 20, age_s=max_hours * 3600),
        token=token or None,
        hosts=() if is_loopback(host) else (host,),
        origins=cors_origin,
    )
    try:
        _serve(options, listening, open_page)
    except DatabaseInUse as error:
        raise _failed(f"{error}: another `otelkit ui` shows it; end that one, or name another folder") from None
    except OSError as error:
        raise _failed(str(error)) from None


def _serve(options: Any, listening: Any, open_page: bool) -> None:
    from otelkit.viewer.server import Backend

    backend = Backend(options, listening, say=lambda text: typer.echo(f"otelkit ui: {text}", err=True))
    got = listening.getsockname()[1]
    if options.port and got != options.port:
        typer.echo(f"port {options.port} is taken (is a collector running?); send to this one instead:")
        typer.echo(f"  export OTEL_EXPORTER_OTLP_ENDPOINT={backend.url}")
    link = f"{backend.url}/?token={options.token}" if options.token else backend.url
    where = f"kept in {options.database}" if options.database else "kept in memory"
    also = f" and, over gRPC, {backend.grpc_url}" if backend.grpc_url else ""
    typer.echo(f"receiving OTLP at {backend.url}{also}, {where}")
    typer.echo(f"open {link}")
    if open_page:
        webbrowser.open(link)
    backend.run()


def _failed(message: str) -> typer.Exit:
    typer.echo(f"otelkit ui: {message}" if not message.startswith("otelkit ui") else message, err=True)
    return typer.Exit(1)
