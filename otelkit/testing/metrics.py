"""The metrics of a captured test, by name and labels."""

from __future__ import annotations

from otelkit.testing.attributes import Attributes, carries, shown, wanted
from otelkit.testing.measured import Distribution, Measured, Series


class Value(float):
    """A number that remembers what else was recorded, for the message of a failed assertion."""

    _recorded: str

    @classmethod
    def of(cls, number: float, recorded: str) -> Value:
        """The number with the list."""
        value = cls(number)
        value._recorded = recorded
        return value

    def __repr__(self) -> str:
        return f"{self:.12g}"

    def explain(self) -> str:
        """What was recorded."""
        return self._recorded


class Metrics:
    """What was measured up to the moment of asking."""

    def __init__(self, measured: Measured) -> None:
        self._series = list(measured.series.values())

    @property
    def names(self) -> list[str]:
        """The names of all metrics that have a value."""
        return sorted({series.name for series in self._series})

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def value(self, name: str, attributes: Attributes | None = None, /, **labels: object) -> float:
        """A counter's total over all label sets that carry these labels, 0 if there is none; a gauge's last value.

        `telemetry.metrics.value("orders.placed", plan="pro")`; dotted labels go into the mapping. Raises
        AssertionError for a histogram, and where several label sets of a gauge carry these labels.
        """
        __tracebackhide__ = True
        found = self._found(name, attributes, labels)
        if any(series.kind == "histogram" for series in found):
            raise AssertionError(f"{name} is a histogram: telemetry.metrics.histogram({name!r}) has its count and sum")
        if len(found) > 1 and any(series.kind == "gauge" for series in found):
            raise AssertionError(
                f"{len(found)} values of the gauge {name} carry these labels; name more of them\n{self}"
            )
        return Value.of(sum(series.value for series in found if not isinstance(series.value, Distribution)), str(self))

    def histogram(self, name: str, attributes: Attributes | None = None, /, **labels: object) -> Distribution:
        """What a histogram has seen over all label sets that carry these labels; its count is 0 if there is none.

        Raises AssertionError for a counter or gauge.
        """
        __tracebackhide__ = True
        found = self._found(name, attributes, labels)
        total = Distribution()
        for series in found:
            if not isinstance(series.value, Distribution):
                raise AssertionError(f"{name} is a {series.kind}: telemetry.metrics.value({name!r}) has its value")
            total += series.value
        return total

    def _found(self, name: str, attributes: Attributes | None, labels: Attributes) -> list[Series]:
        sought = wanted(attributes, labels)
        return [series for series in self._series if series.name == name and carries(series.attributes, sought)]

    def __str__(self) -> str:
        """A line a series."""
        return "\n".join(sorted(_line(series) for series in self._series)) or "no metrics were recorded"

    def __repr__(self) -> str:
        return f"<{len(self.names)} metrics: {', '.join(self.names)}>"


def _line(series: Series) -> str:
    value = series.value
    text = f"count {value.count}, sum {value.sum:.6g}" if isinstance(value, Distribution) else f"{value:.12g}"
    return f"{series.name}{shown(series.attributes)} {text}"
