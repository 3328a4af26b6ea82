"""Figures with their spread, and tables that read well as text and as Markdown."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Student's t for a two-sided 95 %, by degrees of freedom from 1 to 30; it falls by 4 % at most after that.
_STUDENT_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """The median, the least and the greatest of several rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError for no values."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def shown(self, digits: int = 0) -> str:
        """`median (least to greatest)`."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.greatest:.{digits}f})"


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds between which it lies in 95 of 100 cases."""

    mean: float
    lower: float
    upper: float

    def shown(self, digits: int = 3) -> str:
        """`mean (lower to upper)`."""
        return f"{self.mean:.{digits}f} ({self.lower:.{digits}f} to {self.upper:.{digits}f})"


def mean_ratio(ratios: Sequence[float]) -> Interval:
    """The geometric mean of ratios, with Student's interval over their logarithms.

    Raises StatisticsError for less than two.
    """
    logs = [math.log(ratio) for ratio in ratios]
    mean, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    half = error * _STUDENT_95[min(len(logs) - 1, len(_STUDENT_95)) - 1]
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def slope(points: Iterable[tuple[float, float]]) -> float:
    """The slope of the line through points (x, y) by least squares. Raises StatisticsError for less than two."""
    found = list(points)
    return statistics.linear_regression([x for x, _ in found], [y for _, y in found]).slope


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(_padded(cell, width, at) for at, (cell, width) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def _padded(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def machine() -> dict[str, str | int]:
    """The machine and the Python that the figures are of."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
