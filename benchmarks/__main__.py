"""`python -m benchmarks [part …]`: measures, prints the tables, and writes every figure as JSON where `--json` says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import comparison, counting, latency, memory, micro, report, requests, starts, tasks, throughput
from benchmarks.environments import FOLDER, peer_environment, versions
from benchmarks.peers import NAMES, peer
from benchmarks.rounds import Comparison
from benchmarks.soak.result import shown as shown_soak
from benchmarks.soak.run import measure as measure_soak
from otelkit.config.settings import TABLE

Part = Callable[[argparse.Namespace], tuple[object, bool]]
"""Measures and prints; every figure, and whether all peers had one."""

_APPLICATION = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "redis", "celery")


def main() -> None:
    """Runs the parts that were asked for. Ends with 1 when a peer failed."""
    options = _options()
    print("\n".join(f"{name}: {value}" for name, value in report.machine().items()), flush=True)
    figures: dict[str, object] = {"machine": report.machine()}
    complete = True
    for name in options.parts or DEFAULT:
        figures[name], all_measured = PARTS[name](options)
        complete &= all_measured
    if options.json is not None:
        figures["versions"] = {
            folder.name.removeprefix(".env-"): versions(folder / "bin" / "python")
            for folder in sorted(FOLDER.glob(".env-*"))
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(not complete)


def _requests(options: argparse.Namespace) -> tuple[object, bool]:
    return _compared(requests.measure(options.peers, rounds=options.rounds, requests=options.requests))


def _tasks(options: argparse.Namespace) -> tuple[object, bool]:
    return _compared(tasks.measure(options.peers, rounds=options.rounds, tasks=options.requests))


def _compared(results: Sequence[Comparison]) -> tuple[object, bool]:
    for result in results:
        print(f"\n{comparison.shown(result)}")
    found = {name: versions(peer_environment(name)) for name in comparison.compared_peers(results)}
    own = {name: packages.get(peer(name).package, "") for name, packages in found.items()}
    print(f"\n{comparison.peers_table(results, own)}\n\n{comparison.arrivals(results)}\n")
    for package in _APPLICATION:
        # Peers narrow what pip may choose: then they don't run quite the same application.
        of_peers = {packages[package]: name for name, packages in found.items()}
        same = len(of_peers) == 1
        print(package, *(version if same else f"{version} ({name})" for version, name in of_peers.items()), flush=True)
    return [asdict(result) for result in results], not any(result.failures for result in results)


def _operations(options: argparse.Namespace) -> tuple[object, bool]:
    found = micro.measure(options.rounds, options.peers)
    print(f"\n{micro.shown(found)}", flush=True)
    return found, True


def _starts(options: argparse.Namespace) -> tuple[object, bool]:
    found = starts.measure(3 * options.rounds, options.peers)
    print(f"\n{starts.shown(found)}", flush=True)
    return {name: [asdict(each) for each in runs] for name, runs in found.items()}, True


def _throughput(options: argparse.Namespace) -> tuple[object, bool]:
    found = throughput.measure(options.seconds, options.peers)
    print(f"\n{throughput.shown(found, options.seconds)}", flush=True)
    return {name: asdict(each) for name, each in found.items()}, True


def _memory(options: argparse.Namespace) -> tuple[object, bool]:
    found = memory.measure(options.peers, requests=options.memory_requests)
    print(f"\n{memory.shown(found, options.memory_requests)}", flush=True)
    figures = {name: each if isinstance(each, str) else asdict(each) for name, each in found.items()}
    return figures, not any(isinstance(each, str) for each in found.values())


def _soak(options: argparse.Namespace) -> tuple[object, bool]:
    found = measure_soak(options.peers, seconds=60 * options.minutes, seed=options.seed, otelcol=options.otelcol)
    print(f"\n{shown_soak(found)}", flush=True)
    holds = not any(result.failures() for name, result in found.items() if name == "otelkit")
    return {name: asdict(result) for name, result in found.items()}, holds


def _latency(options: argparse.Namespace) -> tuple[object, bool]:
    found = latency.measure(rounds=options.latency_rounds, requests=options.latency_requests)
    print(f"\n{latency.shown(found)}", flush=True)
    return [asdict(each) for each in found], True


def _counting(options: argparse.Namespace) -> tuple[object, bool]:
    found = counting.measure(rounds=options.rounds, groups=options.groups)
    print(f"\n{counting.shown(found)}", flush=True)
    return [asdict(each) for each in found], True


PARTS: dict[str, Part] = {
    "requests": _requests,
    "tasks": _tasks,
    "operations": _operations,
    "starts": _starts,
    "throughput": _throughput,
    "memory": _memory,
    "soak": _soak,
    "latency": _latency,
    "counting": _counting,
}
DEFAULT = tuple(name for name in PARTS if name not in ("soak", "latency", "counting"))
"""What is measured when nothing is named: the others are questions of their own, or take as long as all of these."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # A choice that this version of otelkit does not have would measure the default under another name.
    peers = tuple(name for name in NAMES if name != "otelkit_sdk" or "OTELKIT_ENGINE" in TABLE)
    parts = tuple(PARTS)
    which = f"some of {', '.join(parts)}; else {', '.join(DEFAULT)}"
    parser.add_argument("parts", nargs="*", type=_one_of(parts), help=which)
    parser.add_argument("--peers", type=_some_of(peers), default=peers, help=f"comma list of {', '.join(peers)}")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds of everything (%(default)s)")
    parser.add_argument("--requests", type=_positive, default=500, help="of a route, or tasks, a round (%(default)s)")
    parser.add_argument("--seconds", type=_positive, default=15, help="how long throughput is held (%(default)s)")
    parser.add_argument("--memory-requests", type=_positive, default=100_000, help="(%(default)s)")
    parser.add_argument("--minutes", type=_positive_time, default=30.0, help="how long the soak is (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the soak's outages and restarts (%(default)s)")
    parser.add_argument("--otelcol", action="store_true", help="have a real one between the soak and its collector")
    parser.add_argument("--latency-rounds", type=_positive, default=10, help="(%(default)s)")
    parser.add_argument("--latency-requests", type=_positive, default=6000, help="of a server, a round (%(default)s)")
    parser.add_argument(
        "--groups", type=_positive, default=2000, help="of four requests, a round of counting (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _positive_time(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("more than 0")
    return number


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
        return text

    return name


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    one = _one_of(known)
    return lambda text: tuple(one(name) for name in text.split(","))


if __name__ == "__main__":
    main()
