"""What a setting allows and nobody means: each is told in a WARNING, and the value counts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from otelkit.config.parse import regular_expressions
from otelkit.config.settings import Settings

_SHORTEST_MEANT_S = 0.1
_QUANTIFIER = re.compile(r"\{\d*,\d*\}")


def hints(settings: Settings) -> Iterator[str]:
    """A sentence for each such value, with what it means here and what was probably meant."""
    for setting, found in settings.items():
        if found.source == "default":
            continue
        says = f"{setting.named_by(found.source)}={setting.masked(found.raw)!r}"
        if setting.env.endswith("_TIMEOUT") and "OTLP" in setting.env and found.source == "environment":
            value = found.value
            if isinstance(value, float) and value < _SHORTEST_MEANT_S:
                yield (
                    f"{says} is {value * 1000:g} milliseconds for a request: the OpenTelemetry specification's unit,"
                    f" where OpenTelemetry Python's exporters read seconds. {found.raw.strip()} seconds are"
                    f" {setting.env}={value * 1_000_000:.0f}"
                )
        elif setting.parse is regular_expressions and (quantifier := _QUANTIFIER.search(found.raw)):
            yield (
                f"{says}: every comma separates two regular expressions, also that of {quantifier[0]!r}, which is cut"
                " in two here; write it without a comma"
            )
