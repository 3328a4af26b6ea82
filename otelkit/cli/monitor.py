"""`otelkit monitor celery`: measures Celery's broker, and sends what it measured as metrics."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import typer

app = typer.Typer(no_args_is_help=True, help="Measure from outside what no process of a service can tell of itself.")


@app.callback()
def _group() -> None:
    """Measure from outside what no process of a service can tell of itself."""


# The help keeps the lines as they stand here.
@app.command()
def celery(
    application: str = typer.Option("", "-A", "--app", help="The Celery app, as for `celery -A`."),
    broker: str = typer.Option("", "-b", "--broker", help="URL of the broker, where there is no app to import."),
    queues: list[str] = typer.Option([], "-Q", "--queue", help="A queue; again for more. Default: the app's."),
    interval_s: float = typer.Option(0.0, "--interval", help="Seconds between two measurements.", min=0.0),
) -> None:
    """Measure the queues of a Celery broker (Redis, RabbitMQ) and count its workers.

    Runs until it is ended. Settings come from the environment and
    pyproject.toml, as for any service: see `otelkit env`.

    Example: OTEL_SERVICE_NAME=shop-monitor otelkit monitor celery -A shop.tasks
    """
    if bool(application) == bool(broker):
        typer.echo(
            "otelkit monitor celery: name the app (-A shop.tasks) or the broker (-b redis://…), one of them", err=True
        )
        raise typer.Exit(2)
    found = _find(application) if application else _over(broker)
    from otelkit.config.load import load
    from otelkit.instrumentation.celery_monitor import Monitor
    from otelkit.wiring import bootstrap, status

    settings = load().settings
    if status()["state"] != "running":
        named = settings.service_name or "service.name" in settings.resource_attributes
        bootstrap(None if named else "celery-monitor")
    interval_s = interval_s or settings.metric_export_interval_s
    monitor = Monitor(found, interval_s=interval_s, queues=queues, management=settings.celery_management_endpoint)
    monitor.start()
    typer.echo(
        f"measuring {', '.join(monitor.queues)} at {found.connection_for_read().as_uri()} every {interval_s:g} s"
    )
    with suppress(KeyboardInterrupt):
        monitor.join()


def _find(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    from celery.app.utils import find_app

    try:
        return find_app(name)
    except (ImportError, AttributeError) as error:
        typer.echo(f"otelkit monitor celery: there is no Celery app {name!r} ({error})", err=True)
        raise typer.Exit(1) from None


def _over(broker: str) -> Any:
    from celery import Celery

    return Celery(broker=broker)
