"""What a process writes of its metrics for its siblings."""

from __future__ import annotations

import os
from pathlib import Path

from otelkit.engine.group import Member
from otelkit.engine.group_key import GroupKey
from otelkit.engine.sharing import Measured, SharedMetrics, SharingOptions
from tests.unit.test_shared_series import SCOPE, number


def test_what_has_just_been_collected_is_not_written_again(tmp_path: Path) -> None:
    """What has changed before a flush is part of what the flush collects: after it nothing has changed."""
    key = GroupKey(os.getpid(), "test")
    sibling = Member(tmp_path, key, "sibling")
    shared = SharedMetrics(
        SharingOptions(
            key=key,
            groups=tmp_path,
            resource={"service.instance.id": "mine"},
            explicit_id=None,
            interval_s=60.0,
            timeout_s=1.0,
            deliver=lambda *_, **__: None,
            is_state=lambda name: False,
            each_second=lambda alone: None,
        )
    )
    waiting = ["visits"]

    def changed() -> Measured:
        while waiting:
            waiting.pop()
            yield SCOPE, number(1)

    shared.changed = changed
    shared.read = lambda timeout_s: None
    try:
        shared.flush()
        assert waiting == []
    finally:
        shared.leave()
        sibling.leave()
        sibling.remove()
        sibling.abandon()
