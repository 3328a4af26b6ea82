"""What becomes of collected metrics: exported by this process alone, or put together with those of its siblings.

Every process of a group (group.py) writes its series into a file of its own, every 100 ms what has changed (every
second while no other one lives), and all of it at each interval, at a flush and at its end. One of them, the leader,
exports the sums of all, those that have ended included; each of the others takes over when it is gone. As long as a
process has had no sibling it exports what it collects, and writes nothing.

What cannot be shared each process exports itself, under its own `service.instance.id`: delta temporality, exponential
histograms, what has no place in the file, and everything where the group cannot be joined.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.runtime import fork, guard

if TYPE_CHECKING:
    from otelkit.engine.group import Member
    from otelkit.engine.group_key import GroupKey
    from otelkit.engine.merging import Merger

logger = logging.getLogger("otelkit.engine")

_PUBLISH_S = 0.1
_ALONE_S = 1.0
_SECOND_S = 1.0
_POLL_S = 0.005
_BESIDE_S = 2.0
_NEVER = float("inf")

BESIDE = "prometheus_client"
"""The scope of what lies in the file beside the metrics: a Prometheus server gets it that pulls, and nobody else."""

Measured = Iterable[tuple[InstrumentationScope, Metric]]


class Deliver(Protocol):
    """Takes a collection in, to be sent under a resource; calls `delivered` when the next hop has acknowledged it. A
    later one with the same `key`, unless 0, says all that it says.
    """

    def __call__(
        self,
        data: MetricsData,
        resource: Mapping[str, Any],
        delivered: Callable[[], None] | None = None,
        *,
        key: int = 0,
    ) -> None: ...


class SharingOptions(NamedTuple):
    """What sharing is made of.

    `key` is None where metrics are not shared. `resource` is this process's; `explicit_id` the `service.instance.id`
    that was set for all processes, if one was. `is_state` says of a metric's name whether its sum says how the
    process is, and so ends with it. `each_second` is called about every second, with whether the process has siblings.
    """

    key: GroupKey | None
    groups: Path
    resource: Mapping[str, Any]
    explicit_id: str | None
    interval_s: float
    timeout_s: float
    deliver: Deliver
    is_state: Callable[[str], bool]
    each_second: Callable[[bool], None]


class SharedMetrics:
    """The metrics of this process among those of its group. Thread-safe.

    `read` collects everything, observable callbacks included, and hands it to `take`; `changed` yields what has
    changed since it was called last, as far as that can be told without asking callbacks. `beside` yields what is only
    for a Prometheus server that pulls.
    """

    def __init__(self, options: SharingOptions) -> None:
        self._options = options
        self.read: Callable[[float], None] | None = None
        self.changed: Callable[[], Measured] = tuple
        self.beside: Callable[[], Measured] = tuple
        self._beside_due = 0.0
        self._lock = threading.RLock()
        self._member: Member | None = None
        self._joined = options.key is None
        self._left = False
        self._merger: Merger | None = None
        self._collected: MetricsData | None = None
        self._due = time.monotonic() + options.interval_s
        self._second = 0.0
        self._answering = 0
        self._accompanied = False
        self._full = False
        self.failure: str | None = None

    def take(self, data: MetricsData) -> None:
        """Where the reader hands its collection."""
        self._collected = data

    # -- the worker's side

    def tick(self) -> float:
        """Does what is due; returns in how many seconds to call it again."""
        with self._lock:
            if self.read is None or self._left:
                return _SECOND_S
            now = time.monotonic()
            due = now >= self._due
            if due:
                self._due = now + self._options.interval_s
            member = self._membership()
            alone = member is None or member.alone
            if now >= self._second:
                self._second = now + _SECOND_S
                self._options.each_second(alone)
                self._accompanied = member is not None and not alone and member.accompanied()
            if member is None or alone:
                if due:
                    self._export_own(member)
                return min(_ALONE_S if member is not None else _NEVER, self._due - now)
            if due:
                self._publish_all(member)
            else:
                self._publish(member, self.changed())
                if now >= self._beside_due:
                    self._publish_beside(member)
            if member.leads():
                self._lead(member)
            # Who is the only one that lives wakes up as seldom as who has always been alone.
            return _PUBLISH_S if self._accompanied else min(_ALONE_S, self._due - now)

    def flush(self) -> int:
        """Exports now, or asks the leader to: then returns the request's number for `acknowledged`, else 0."""
        with self._lock:
            if self._left:
                return 0
            member = self._membership()
            if member is None or member.alone:
                exported = self._export_own(member)
                if member is not None:
                    self._publish(member, _flat(exported))  # a sibling may come, and this process be killed
                return 0
            self._publish_all(member)
            if member.leads():
                self._export(member)
                return 0
            return member.ask()

    def acknowledged(self, request: int, deadline: float) -> bool:
        """Waits until the next hop has acknowledged what a request to the leader exported, until `deadline`
        (monotonic) at the latest.
        """
        member = self._member
        while member is not None and member.header.answered < request:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def leave(self) -> None:
        """Collects for the last time; exports, unless a sibling lives that will."""
        with self._lock:
            if self._left:
                return
            member = self._membership()
            self._left = True
            if member is None:
                self._export_own(None)
                return
            with guard.guarded("the last collection of metrics"):
                self._publish_all(member)
            last = member.leave()
            if last or (self._overdue(member) and member.leads()):
                self._export(member)
            if last:
                member.remove()
            self._member = None
            member.abandon()

    def abandon(self) -> None:
        """In a forked child: the membership is the parent's."""
        member, self._member = self._member, None
        self._left = True
        if member is not None:
            member.abandon()

    # -- the pull endpoint's side

    def view(self, own: MetricsData | None) -> MetricsData | None:
        """What the group says; without siblings that is `own`, what this process has collected."""
        with self._lock:
            member = self._membership()
            if member is None or member.alone:
                return own
            # Not `own`: another reader's sums may have begun later, and a sum must not fall.
            self._publish(member, _flat(self._collect()))
            self._publish_beside(member)
            return _data(self._merged(member, time.time_ns(), 0), self._resource(member))

    def describe(self) -> dict[str, Any]:
        """The process's place, as plain data."""
        member = self._member
        if member is None:
            return {"shared": False, "failure": self.failure}
        return {
            "shared": not member.alone,
            "service.instance.id": member.group_id,
            "slot": member.slot,
            "leader": member.is_leader,
            "failure": self.failure,
        }

    # -- the group

    def _membership(self) -> Member | None:
        options = self._options
        if not self._joined and not self._left:
            self._joined = True
            assert options.key is not None
            with fork.importing:  # in the worker, not at every start of a program
                from otelkit.engine.group import Member
                from otelkit.engine.merging import Merger
            self._merger = Merger()
            try:
                own_id = options.explicit_id or str(options.resource["service.instance.id"])
                self._member = Member(options.groups, options.key, own_id)
                self._member.leads()  # whoever joins later must not export before this process's part is there
            except (OSError, ValueError) as error:
                self.failure = str(error)
                logger.warning(
                    "the metrics of this process are exported by itself, under a service.instance.id of its own: those"
                    " of its service's other processes cannot be shared (%s)",
                    error,
                )
        return self._member

    def _publish_all(self, member: Member) -> None:
        deque(self.changed(), maxlen=0)  # what it says is part of what is collected now, and is not written again
        left = self._publish(member, _flat(self._collect()))
        if left:
            scopes = [ScopeMetrics(scope, [metric], scope.schema_url or "") for scope, metric in left]
            self._options.deliver(_data(scopes, {}), self._options.resource)
        self._publish_beside(member)

    def _publish_beside(self, member: Member) -> None:
        self._beside_due = time.monotonic() + _BESIDE_S
        with guard.guarded("the application's prometheus_client registry"):
            self._publish(member, self.beside())

    def _publish(self, member: Member, measured: Measured) -> list[tuple[InstrumentationScope, Metric]]:
        """Writes what was measured; returns what has no place in the file."""
        is_state = self._options.is_state
        left = member.series.write((scope, metric, is_state(metric.name)) for scope, metric in measured)
        if member.series.full and not self._full:
            self._full = True
            self.failure = "more series than the process's file holds"
            logger.warning(
                "this process has more metric series than can be shared with its service's other processes (%d KiB);"
                " the others it exports under a service.instance.id of its own. Take attributes with many values away",
                member.series.size >> 10,
            )
        return left

    def _collect(self) -> MetricsData | None:
        self._collected = None
        if self.read is not None:
            with guard.guarded("the collection of metrics"):
                self.read(self._options.timeout_s)
        collected, self._collected = self._collected, None
        return collected

    def _export_own(self, member: Member | None) -> MetricsData | None:
        collected = self._collect()
        if member is not None:
            member.header.exported_ns = time.time_ns()
        if collected is not None:
            resource = self._options.resource if member is None else self._resource(member)
            self._options.deliver(collected, resource, key=self._everything(resource))
        return collected

    def _lead(self, member: Member) -> None:
        asked = member.header.asked > max(self._answering, member.header.answered)
        if asked or self._overdue(member):
            self._publish_all(member)
            self._export(member)

    def _overdue(self, member: Member) -> bool:
        since_ns = time.time_ns() - member.header.exported_ns
        return not 0 <= since_ns < self._options.interval_s * 1e9  # less than none: the clock was set

    def _export(self, member: Member) -> None:
        header = member.header
        request = self._answering = header.asked
        since_ns, now_ns = header.exported_ns, time.time_ns()
        header.exported_ns = now_ns
        scopes = [found for found in self._merged(member, now_ns, since_ns) if found.scope.name != BESIDE]

        def delivered() -> None:
            header.answered = max(header.answered, request)

        if scopes:
            resource = self._resource(member)
            self._options.deliver(_data(scopes, {}), resource, delivered, key=self._everything(resource))
        with guard.guarded("the sums of ended processes"):  # the files stay, and are read again at every export
            member.fold()

    def _everything(self, resource: Mapping[str, Any]) -> int:
        """The key of a collection that has every series of a resource; 0 where points are no running sums."""
        if self._options.key is None:
            return 0
        identity = str(resource.get("service.instance.id")).encode()
        return int.from_bytes(hashlib.sha256(identity).digest()[:8], "big") or 1

    def _merged(self, member: Member, now_ns: int, since_ns: int) -> list[ScopeMetrics]:
        assert self._merger is not None
        return self._merger.merge(member.sources(), now_ns, since_ns=since_ns, slots=member.slots)

    def _resource(self, member: Member) -> Mapping[str, Any]:
        mine = self._options.resource
        shared = {key: value for key, value in mine.items() if key != "process.pid"}
        return {**shared, "service.instance.id": member.group_id}


def _flat(data: MetricsData | None) -> Measured:
    for resource in data.resource_metrics if data is not None else ():
        for found in resource.scope_metrics:
            for metric in found.metrics:
                yield found.scope, metric


def _data(scopes: list[ScopeMetrics], resource: Mapping[str, Any]) -> MetricsData:
    return MetricsData([ResourceMetrics(Resource(resource), scopes, "")])
