"""`python -m benchmarks`: measures, prints the tables, and writes every figure as JSON where `--json` says."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import micro, requests
from benchmarks.environments import FOLDER, versions
from benchmarks.peers import NAMES
from benchmarks.report import machine

_SHOWN = ("otelkit", "fastapi", "starlette", "uvicorn", "sqlalchemy", "redis", "opentelemetry-sdk")


def main() -> None:
    """Runs the parts that were asked for."""
    options = _options()
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    result: dict[str, Any] = {"machine": machine()}
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "requests": _requests,
        "operations": _operations,
        "starts": _starts,
    }
    for name in options.parts:
        result[name] = parts[name](options)
    result["versions"] = {
        folder.name.removeprefix(".env-"): versions(folder / "bin" / "python")
        for folder in sorted(FOLDER.glob(".env-*"))
    }
    for name, found in result["versions"].items():
        print(f"\n{name}: " + ", ".join(f"{package} {found[package]}" for package in _SHOWN if package in found))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def _requests(options: argparse.Namespace) -> dict[str, Any]:
    found = requests.measure(options.peers, rounds=options.rounds, requests=options.requests)
    print(f"\n{requests.requests_tables(found)}\n\n{requests.arrivals(found)}", flush=True)
    return {"measured": [asdict(each) for each in found]}


def _operations(options: argparse.Namespace) -> dict[str, Any]:
    found = micro.measure_operations(options.rounds)
    print(f"\n{micro.operations_table(found)}", flush=True)
    return {"ns": found}


def _starts(options: argparse.Namespace) -> dict[str, Any]:
    found = micro.measure_starts(3 * options.rounds)
    print(f"\n{micro.starts_table(found)}", flush=True)
    return {name: [asdict(each) for each in runs] for name, runs in found.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds of everything (%(default)s)")
    parser.add_argument("--requests", type=_positive, default=1000, help="requests a round and route (%(default)s)")
    parser.add_argument("--peers", type=_names(NAMES), default=NAMES, help=f"comma list of {', '.join(NAMES)}")
    words = ("requests", "operations", "starts")
    parser.add_argument("--parts", type=_names(words), default=words, help=f"comma list of {', '.join(words)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


if __name__ == "__main__":
    main()
