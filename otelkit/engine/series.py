"""The series of an instrument: which cell a set of attributes belongs to."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from otelkit.delivery.records import Shared
from otelkit.engine.attributes import AttributeLimits
from otelkit.engine.cells import Cell

logger = logging.getLogger("otelkit.engine")

C = TypeVar("C", bound=Cell)
MakeCell = Callable[[Shared], C]
Items = tuple[tuple[str, Any], ...]
Kinds = tuple[tuple[str, type], ...]

LIMIT = 2000
"""The most series of an instrument; https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits"""
OVERFLOW = {"otel.metric.overflow": True}
_UNLIMITED = AttributeLimits(None, None)


class Series(Generic[C]):
    """Finds the cell of a set of attributes, and makes it at its first measurement.

    The way that is taken every time is one look-up in `by_items`, by the attributes' items as they came. Equal items
    may mean another series where values are no texts (1, True and 1.0 are equal in Python), so the types of those
    stand beside. `find` is the long way, on which the order of the keys does not matter.
    """

    def __init__(self, name: str, make: MakeCell[C]) -> None:
        self._name = name
        self._make = make
        self._lock = threading.RLock()
        self._cells: dict[object, C] = {}
        self._overflow: C | None = None
        self.by_items: dict[Items, tuple[C, Kinds]] = {}

    def find(self, attributes: Mapping[str, Any] | None) -> C:
        """The cell of these attributes. Raises TypeError for what is no mapping."""
        attributes = attributes or {}
        taken = _UNLIMITED.take(attributes)
        key = _canonical(taken)
        cell = self._cells.get(key)
        if cell is None:
            with self._lock:
                cell = self._cells.get(key)
                if cell is None:
                    if len(self._cells) < LIMIT - 1:
                        cell = self._cells.setdefault(key, self._make(Shared(taken)))
                    else:
                        cell = self._overflowing()
        if type(taken) is dict:  # nothing but simple, hashable values
            kinds = tuple((key, type(value)) for key, value in taken.items() if type(value) is not str)
            if len(self.by_items) >= 2 * LIMIT:
                self.by_items.clear()
            self.by_items[tuple(taken.items())] = (cell, kinds)
        return cell

    def _overflowing(self) -> C:
        if self._overflow is None:
            self._overflow = self._make(Shared(OVERFLOW))
            different = Counter(name for name, _ in {pair for cell in self._cells.values() for pair in _pairs(cell)})
            worst, values = different.most_common(1)[0] if different else ("", 0)
            logger.warning(
                "the metric %s has %d series; further label sets are added up under otel.metric.overflow."
                " The attribute with the most values is %r (%d): take it away, or group its values",
                self._name,
                LIMIT,
                worst,
                values,
            )
        return self._overflow

    def cells(self) -> Sequence[C]:
        """Those that have had a measurement."""
        found = [cell for cell in tuple(self._cells.values()) if cell.live is not False]
        if self._overflow is not None and self._overflow.live is not False:
            found.append(self._overflow)
        return found

    def reset(self, reset: Callable[[C], None]) -> None:
        """Begins at zero: a new opening, or a forked child. Cells that somebody holds stay valid."""
        self._lock = threading.RLock()
        for cell in self._cells.values():
            reset(cell)
        self._overflow = None
        self.by_items.clear()


def _canonical(value: Any) -> object:
    """A key that is equal for equal attributes of equal types alone, whatever their order."""
    if isinstance(value, Mapping):
        return tuple((key, _canonical(value[key])) for key in sorted(value))
    if type(value) is str:
        return value
    if isinstance(value, tuple):
        return (tuple, tuple(_canonical(item) for item in value))
    return (type(value), value)


def _pairs(cell: Cell) -> set[tuple[str, str]]:
    return {(name, repr(value)) for name, value in cell.attributes.items()}
