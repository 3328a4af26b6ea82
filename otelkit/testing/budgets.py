"""What a test may spend in telemetry: queries, spans, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otelkit.testing.spans import CapturedSpan, Spans


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that is allowed; None where it does not matter. `max_duration_s` is for each root span."""

    max_queries: int | None = None
    max_spans: int | None = None
    max_duration_s: float | None = None

    @classmethod
    def of(cls, marks: Iterable[tuple[tuple[object, ...], Mapping[str, object]]]) -> Budget:
        """From the arguments of `@pytest.mark.telemetry`, the innermost first.

        Raises ValueError for arguments that are no budgets.
        """
        found: dict[str, object] = {}
        for args, kwargs in marks:
            if args:
                raise ValueError("its budgets are keyword arguments: max_queries, max_spans, max_duration_s")
            for name, value in kwargs.items():
                if name not in cls.__slots__:
                    raise ValueError(f"{name!r} is no budget; there are max_queries, max_spans, max_duration_s")
                number = float if name == "max_duration_s" else int
                if isinstance(value, bool) or not isinstance(value, (int, number)) or value < 0:
                    raise ValueError(f"{name}={value!r} is no {'time in seconds' if number is float else 'count'}")
                found.setdefault(name, value)
        return cls(**found)  # type: ignore[arg-type]

    def excess(self, spans: Spans) -> list[str]:
        """What these spans spent too much, a line each."""
        lines = []
        queries = spans.queries
        if self.max_queries is not None and len(queries) > self.max_queries:
            lines.append(f"{len(queries)} queries, {self.max_queries} allowed")
            repeated = Counter(_statement(query) for query in queries).most_common()
            lines += [f"  {times} × {statement}" for statement, times in repeated if times > 1] or [
                f"  {statement}" for statement, _ in repeated
            ]
        if self.max_spans is not None and len(spans) > self.max_spans:
            lines.append(f"{len(spans)} spans, {self.max_spans} allowed")
        if self.max_duration_s is not None:
            slow = [span for span in spans.roots if span.duration_s > self.max_duration_s]
            lines += [f"{span.name} took {span.duration_s:.3f} s, {self.max_duration_s:g} s allowed" for span in slow]
        return lines


def _statement(query: CapturedSpan) -> str:
    text = query.attributes.get("db.query.text", query.name)
    return f"{' '.join(str(text).split())[:200]}  ({query.attributes['db.system.name']})"
