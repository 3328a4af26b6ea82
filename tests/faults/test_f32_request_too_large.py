"""Row 32: the next hop answers 413. The request is divided, down to one record, and what alone is too large is
counted; what has fitted once is not tried larger again.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, run_service
from tests.support.sink import Sink

SPANS, GIANTS = 1000, 3
MOST_BYTES = 20_000
EMIT = f"""
for number in range({SPANS}):
    with otelkit.span("work", n=number, text=os.urandom(15_000 if number % 400 == 7 else 50).hex()): pass
otelkit.count("orders", 5)
report = otelkit.flush(PATIENCE_S)
print(json.dumps(otelkit.status()["ledger"]))
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_everything_that_fits_alone_arrives(tmp_path: Path, compression: str) -> None:
    with Sink() as sink:
        sink.most_bytes = MOST_BYTES if compression == "none" else MOST_BYTES // 2
        environ = {"OTEL_EXPORTER_OTLP_COMPRESSION": compression}
        finished = run_service(EMIT, sink.port, tmp_path, environ=environ)
        ledger = json.loads(finished.out.splitlines()[-1])
        account = ledger["traces"]
        numbers = Counter(span.attributes["n"] for span in sink.spans)
        giants = {number for number in range(SPANS) if number % 400 == 7}
        assert len(giants) == GIANTS
        assert numbers == Counter(set(range(SPANS)) - giants)
        assert account["dropped"] == {"too_large": GIANTS}
        assert account["delivered"] == SPANS - GIANTS
        assert all(map(balanced, ledger.values()))
        assert all(span.resource["service.name"] == "shop" for span in sink.spans)
        assert any(metric.name == "orders" for metric in sink.metrics)
        # Divided some twenty times at most: the size that was found is kept, not searched for in each batch.
        assert GIANTS <= sink.too_large <= 25
        assert "with HTTP 413; they are dropped" in finished.err
