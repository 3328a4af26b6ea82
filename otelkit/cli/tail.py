"""`otelkit tail`: the live stream of a viewer in the terminal, as trees of spans with their logs inside."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from otelkit.viewer.client import URL, Client, NoAnswer

_SETTLED_S = 0.6
"""How long nothing more of a trace must have come before it is shown."""
_MOST_WAITING = 200
_DEEPEST = 50
_STYLES = {"ERROR": "bold red", "FATAL": "bold red", "WARN": "yellow", "INFO": "cyan", "DEBUG": "dim", "TRACE": "dim"}


def tail(
    query: list[str] = typer.Argument(None, metavar="FILTER", help="In the filter language: status:error duration>1s"),
    level: str = typer.Option("", "--level", help="`error`: traces with errors alone; logs of so much severity."),
    service: str = typer.Option("", "--service", help="Of this service."),
    route: str = typer.Option("", "--route", help="Of this route."),
    url: str = typer.Option(URL, "--url", help="The viewer's."),
    token: str = typer.Option("", "--token", help="The viewer's."),
) -> None:
    """Show what a viewer receives, as it comes: trees of spans with durations, with their logs inside.

    Example: otelkit tail --service shop 'duration>100ms'
    """
    terms = [*(query or ()), *([f'service:"{service}"'] if service else []), *([f'route:"{route}"'] if route else [])]
    if level.lower() in ("error", "fatal"):
        terms.append("status:error")
    shown = _Tail(Client(url, token), Console(highlight=False, soft_wrap=True), level)
    try:
        with suppress(KeyboardInterrupt):
            shown.run(" ".join(terms))
    except NoAnswer as error:
        typer.echo(f"otelkit tail: {error}", err=True)
        raise typer.Exit(1) from None


class _Tail:
    def __init__(self, client: Client, console: Console, level: str) -> None:
        self._client = client
        self._console = console
        self._level = level.lower()
        self._waiting: dict[str, float] = {}

    def run(self, query: str) -> None:
        """Shows a trace when it has settled, and logs of no trace at once; looks at the clock with every event."""
        for name, data in self._client.events(q=query):
            if name == "trace":
                self._waiting.pop(data["trace_id"], None)
                self._waiting[data["trace_id"]] = time.monotonic()
            elif name == "log" and not data["trace_id"] and not self._level:
                self._console.print(_log_line(data))
            elif name == "stats" and data["missed"]:
                self._console.print(f"… {data['missed']} more", style="dim")
            settled = time.monotonic() - _SETTLED_S
            while self._waiting:
                trace_id, since = next(iter(self._waiting.items()))
                if since > settled and len(self._waiting) <= _MOST_WAITING:
                    break
                del self._waiting[trace_id]
                self._console.print(_tree(self._client.get(f"traces/{trace_id}")))


def _tree(trace: dict[str, Any]) -> Tree:
    """A trace as a tree; spans whose parents are missing stand at the top."""
    ids = {span["span_id"] for span in trace["spans"]}
    below: dict[str | None, list[dict[str, Any]]] = {}
    for span in trace["spans"]:
        below.setdefault(span["parent_id"] if span["parent_id"] in ids else None, []).append(span)
    logs: dict[str | None, list[dict[str, Any]]] = {}
    for log in trace["logs"]:
        logs.setdefault(log["span_id"] if log["span_id"] in ids else None, []).append(log)
    head = Text(f"{_clock(trace['start_ms'])} ", "dim")
    tree = Tree(head.append(trace["trace_id"], "dim"))
    pending: list[tuple[Tree, str | None, int]] = [(tree, None, 0)]
    while pending:
        node, span_id, depth = pending.pop()
        for log in logs.get(span_id, ()):
            node.add(_log_line(log))
        children = below.get(span_id, ()) if depth < _DEEPEST else ()
        pending += [(node.add(_span_line(span)), span["span_id"], depth + 1) for span in children]
    return tree


def _span_line(span: dict[str, Any]) -> Text:
    failed = span["status"] == "error"
    line = Text(span["name"], "bold red" if failed else "bold")
    line.append(f"  {_duration(span['duration_ms'])}", "green").append(f"  {span['service']}", "dim")
    if span["queue_wait_ms"] is not None:
        line.append(f"  waited {_duration(span['queue_wait_ms'])}", "yellow")
    if failed and span["status_message"]:
        line.append(f"  {span['status_message'].splitlines()[0][:200]}", "red")
    return line


def _log_line(log: dict[str, Any]) -> Text:
    line = Text(f"{_clock(log['time_ms'])} ", "dim")
    line.append(f"{log['severity'] or '-':5} ", _STYLES.get(log["severity"], ""))
    return line.append(log["body"].partition("\n")[0][:500])


def _clock(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000).strftime("%H:%M:%S.%f")[:-3]


def _duration(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.1f} ms" if ms >= 1 else f"{ms * 1000:.0f} us"
