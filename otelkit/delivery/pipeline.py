"""From queue to next hop: the worker thread encodes, the sender thread sends, and neither waits for the other.

The worker never touches the network; the sender never touches a queue. Both are daemon threads, started by the
process's first record and not before (threads.py).
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from opentelemetry.sdk.metrics.export import MetricsData

from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.backlog import Backlog
from otelkit.delivery.caps import Heavy, Scales
from otelkit.delivery.encode import Encoder
from otelkit.delivery.encode_metrics import count_points
from otelkit.delivery.ledger import DropReason, Ledger, LedgerPage
from otelkit.delivery.metrics_source import Collection, MetricsSource
from otelkit.delivery.options import PipelineOptions
from otelkit.delivery.outbox import Batch, Outbox
from otelkit.delivery.packing import Packing
from otelkit.delivery.queue import QueueLimits, SignalQueue
from otelkit.delivery.recording import open_recorder, open_recovery
from otelkit.delivery.records import Attributes
from otelkit.delivery.report import FlushReport, open_page, report_dead_processes, report_end
from otelkit.delivery.requests import FlushRequest, FlushRequests
from otelkit.delivery.sender import Sender, by_hop
from otelkit.delivery.spool import Spool
from otelkit.delivery.telling import Telling
from otelkit.delivery.threads import Threads
from otelkit.runtime import guard
from otelkit.runtime.bell import Bell
from otelkit.runtime.lifecycle import OWN_WORK_S

R = TypeVar("R")

_LONGEST_WAIT_S = 86_400.0  # locks take no infinity
_WITHOUT_METRICS_S = 1.0  # how soon the worker asks for the metrics again where it has none or they failed
_TOGETHER_S = 0.05  # what is due so soon is done now: a wake-up costs more than most of the work
_TEND_S = 1.0
_LOOKS = 10
_ALONE_S = 2.0


class Pipeline:
    """Carries the records of one process; `spans.put` and `logs.put` are the hot path's end.

    `source` is set by whoever owns the metrics, `telling.tell` by who knows how this process is. A pipeline belongs to
    the process that made it: a forked child makes its own and calls `abandon` on this one.
    """

    def __init__(self, options: PipelineOptions) -> None:
        self._options = options
        self.ledger = Ledger(options.state_dir, options.service)
        self._wake = Bell()
        self.recorder = recorder = open_recorder(options.recorder, self.ledger.started_ns, self.start)
        self.spans = self._queue(
            "traces", options.spans, Scales(options.spans.caps).span, recorder.ended if recorder else None
        )
        self.logs = self._queue("logs", options.logs, Scales(options.logs.caps).log, recorder.log if recorder else None)
        self.telling = Telling(self.logs.put)
        self.source: MetricsSource | None = None
        self._collections: deque[Collection] = deque()
        self._packing = Packing(options, self.ledger)
        self._outbox = Outbox(SIGNALS, options.max_pending_bytes)
        self._in_hand = dict.fromkeys(SIGNALS, 0)
        self._moving = threading.Lock()  # held while records change their place, so that they can be counted
        self._starting = threading.RLock()  # a finalizer may record while this thread starts the others
        self._start_begun = self._page_is_open = False
        self._requests = FlushRequests()
        self._closing = False
        self.is_settled = False
        self._armed = False
        self.spool = self._open_spool()
        self._backlog = Backlog(self._outbox, self.spool, self.ledger)
        self._recovery = open_recovery(options.recorder, self.ledger, self._packing, self._offer)
        self._senders = [
            Sender(self._outbox, self.ledger, hop, self.spool, self._wake.ring, quiet=options.quiet)
            for hop in by_hop(options.destinations)
        ]
        self._threads = Threads(
            [("otelkit-worker", self._work), *(("otelkit-sender", each.run) for each in self._senders)]
        )

    def _queue(
        self,
        signal: Signal,
        limits: QueueLimits,
        weigh: Callable[[R], Heavy[R] | None],
        note: Callable[[R], None] | None,
    ) -> SignalQueue[R]:
        return SignalQueue(
            self.ledger.signals[signal], limits, weigh=weigh, note=note,
            release=self.recorder.release if self.recorder else None, start=self.start, wake=self._wake.ring,
        )  # fmt: skip

    def _open_spool(self) -> Spool | None:
        options = self._options
        if options.spool is None or not options.destinations:
            return None
        identity = options.identity or (options.service,)
        return Spool(options.spool, options.destinations, identity, self.ledger, self._outbox.discard)

    # -- the application's side

    def metrics(
        self, data: MetricsData, resource: Attributes, delivered: Callable[[], None] | None = None, *, key: int = 0
    ) -> None:
        """Takes a collection in, to be sent under a resource; its points are accepted now. `delivered` is called when
        the next hop has acknowledged it; a later collection with the same `key`, unless 0, says all that it says.
        """
        points = count_points(data)
        if not points or "metrics" not in self._options.destinations:
            return
        self.start()
        account = self.ledger.signals["metrics"]
        account.add(account.accepted, points)
        if self.spans.closed:
            account.add(account.dropped(DropReason.AFTER_SHUTDOWN), points)
            return
        with self._moving:
            self._collections.append(Collection(data, points, resource, delivered, key))

    def flush(self, timeout_s: float) -> FlushReport:
        """Collects metrics, sends everything that was accepted before the call, and waits for the acknowledgements.

        Keeps `timeout_s` whatever the next hop does; a pause after a failure is cut short. Safe in any thread.
        """
        lost_before = self.ledger.read().lost
        settled = self.spans.closed or self._drain(time.monotonic() + min(timeout_s, _LONGEST_WAIT_S))
        page, in_memory = self._account()
        return FlushReport.of(page, ok=settled and page.lost == lost_before, in_memory=in_memory)

    def _account(self) -> tuple[LedgerPage, int]:
        """The ledger and what is in memory, of one moment: as far as nothing is emitted meanwhile."""
        page = self.ledger.read()
        for _ in range(_LOOKS):
            in_memory = self.in_memory()
            before, page = page, self.ledger.read()
            if page == before:
                break
        return page, in_memory

    def shutdown(self, timeout_s: float) -> FlushReport:
        """Sends what is there within `timeout_s`, then ends: what is left is dropped and counted. A second call
        reports only.
        """
        if self.spans.closed:
            return FlushReport.of(self.ledger.read(), ok=True, in_memory=self.in_memory())
        deadline = time.monotonic() + min(timeout_s, _LONGEST_WAIT_S)
        # The process's own work is not given up for the network's deadline where the disk takes what comes of it.
        own_deadline = deadline + OWN_WORK_S if self._backlog.keeps else max(deadline, time.monotonic() + _ALONE_S)
        lost_before = self.ledger.read().lost
        if self._threads.running or self.spans.records or self.logs.records or self._collections:
            self._drain(deadline, own_deadline)
        self.spans.closed = self.logs.closed = True
        self._closing = True
        self._wake.ring()
        for thread in self._threads.running[:1]:
            thread.join(max(0.0, own_deadline - time.monotonic()))
        self.spans.sweep()
        self.logs.sweep()
        with self._moving:
            while self._collections:
                self.ledger.signals["metrics"].drop(DropReason.SHUTDOWN, self._collections.popleft().points)
            self._backlog.end(deadline)
        if self.recorder is not None:
            self.recorder.close()
        page = self.ledger.read()
        self.ledger.close()
        self.is_settled = True
        unasked = self._options.quiet and all(found.by_default for found in self._options.destinations.values())
        complete = report_end(page, page.lost - lost_before, unasked=unasked)
        return FlushReport.of(page, ok=complete, in_memory=self.in_memory())

    def in_memory(self) -> int:
        """Records that are queued, being encoded, waiting or in flight: counted where they are, not by the ledger's
        sum.
        """
        with self._moving:
            queued = len(self.spans.records) + len(self.logs.records)
            queued += sum(collection.points for collection in self._collections)
            return queued + sum(self._in_hand.values()) + sum(self._outbox.records(signal) for signal in SIGNALS)

    def abandon(self) -> None:
        """In a forked child: these records, threads and files are the parent's; whoever still holds this emits into
        nothing.
        """
        self._requests = FlushRequests()
        for queue in (self.spans, self.logs):
            queue.started = queue.closed = True
        self._closing = True
        self._threads = Threads(())
        if self.source is not None:
            self.source.abandon()
        if self.spool is not None:
            self.spool.abandon()
        if self.recorder is not None:
            self.recorder.abandon()
        self.ledger.forget()

    def recover(self) -> None:
        """Takes over what dead processes have left, with nothing to send of this one's own."""
        if self.spool is not None:
            for signal in self._options.destinations:
                self.spool.answered(signal)
        self.arm()
        self.start()

    # -- threads

    def arm(self) -> None:
        """From now on the next record starts the threads; what came before (the line at start) only queues."""
        self._armed = True
        if self.recorder is not None:
            self.recorder.arm()

    def start(self) -> bool:
        """Starts the threads, not before `arm`. Those that the system refuses are left to a later call, which the next
        record makes; False as long as there is to be one.
        """
        if self.spans.started or not self._armed:
            return self.spans.started
        if not self._page_is_open:
            with self._starting:
                if not self._start_begun:
                    self._start_begun = True
                    open_page(self.ledger)
                    self._page_is_open = True
        if self._page_is_open and not self._closing and self._threads.start():
            self.spans.started = self.logs.started = True
        return self.spans.started or self._closing

    def _drain(self, deadline: float, own_deadline: float | None = None) -> bool:
        """Has everything encoded, and waits until it is settled; False where the deadline came first. With
        `own_deadline`, that of the encoding, it is the last time.
        """
        self.arm()
        self.start()
        final = own_deadline is not None
        own_deadline = deadline if own_deadline is None else own_deadline
        request = FlushRequest(threading.Event(), final)
        self._requests.append(request)
        self._wake.ring()
        with self._threads.held_back(own_deadline - time.monotonic()) as undone:
            if self._work in undone:
                self._serve_requests()
            # Half of the time is for sending alone; then what waits goes to the disk, while the rest is sent.
            half = (time.monotonic() + deadline) / 2
            if final and not request.drained.wait(half - time.monotonic()):
                self._leave()
            if not request.drained.wait(max(0.0, own_deadline - time.monotonic())):
                return False
            self._outbox.hurry()
            for sender in self._senders:
                if sender.run in undone:
                    sender.run_here(deadline)
            gives_up = self.spool.takes if final and self.spool is not None else None
            if final and not self._outbox.wait_settled(request.last_sequence, half, gives_up=gives_up):
                self._leave()
            settled = self._outbox.wait_settled(request.last_sequence, deadline, gives_up=gives_up)
            if request.elsewhere and self.source is not None:
                settled = self.source.acknowledged(request.elsewhere, deadline) and settled
            return settled

    def _leave(self) -> None:
        with self._moving:
            self._backlog.leave()

    def _work(self) -> None:
        with guard.guarded("the reading of dead processes' ledgers"):
            report_dead_processes(self._options.state_dir)
        options = self._options
        due = {
            "traces": time.monotonic() + options.spans.delay_s,
            "logs": time.monotonic() + options.logs.delay_s,
            "metrics": time.monotonic(),
            "tend": time.monotonic(),
        }
        tended = False
        while not self._closing:
            self._wake.wait(max(0.0, min(due.values()) - time.monotonic()))
            # At the end of the process all else can wait, once it has taken over what the dead have left.
            if tended and self._requests.at_the_end:
                self._serve_requests()
            now = time.monotonic()
            soon = now + _TOGETHER_S
            if due["metrics"] <= soon:
                due["metrics"] = now + self._tick()
            if due["traces"] <= soon or len(self.spans.records) >= options.spans.max_batch:
                due["traces"] = now + options.spans.delay_s
                self._drain_spans()
            if due["logs"] <= soon or len(self.logs.records) >= options.logs.max_batch:
                due["logs"] = now + options.logs.delay_s
                self._drain_logs()
            if due["tend"] <= soon:
                due["tend"] = now + _TEND_S
                self._tend()
                tended = True
            self._drain_collections()
            if self._backlog.moves:
                with self._moving:
                    self._backlog.move()
            self._serve_requests()

    def _serve_requests(self) -> None:
        while self._requests:
            request = self._requests.popleft()
            if request.final:
                self.telling.now(ends=True)
            self._drain_spans()  # first: the functions that are observed may be slow
            self._drain_logs()
            if self.source is not None:
                with guard.guarded("the collection of metrics"):
                    if request.final:
                        self.source.leave()
                    else:
                        request.elsewhere = self.source.flush()
            self._drain_spans()
            self._drain_logs()
            self._drain_collections()
            request.last_sequence = self._outbox.last_sequence
            request.drained.set()

    # -- the worker's work

    def _tend(self) -> None:
        self.start()  # a sender that was refused
        if not self._requests.at_the_end:
            self.telling.tick()
        with guard.guarded("the flight recorder"):
            if self.recorder is not None and self._recovery is not None:
                self.recorder.tend()
                self._recovery.tick()
        for sender in self._senders:
            sender.hurry()
        self._backlog.tend()

    def _offer(self, batch: Batch) -> None:
        with self._moving:
            self._backlog.offer(batch, closing=self._closing)

    def _tick(self) -> float:
        if self.source is not None:
            with guard.guarded("the collection of metrics"):
                return min(self.source.tick(), _LONGEST_WAIT_S)
        return _WITHOUT_METRICS_S

    def _drain_spans(self) -> None:
        self._drain_queue(self.spans, "traces", Encoder.spans)

    def _drain_logs(self) -> None:
        self._drain_queue(self.logs, "logs", Encoder.logs)

    def _drain_queue(self, queue: SignalQueue[R], signal: Signal, encode: Callable[..., tuple[bytes, int]]) -> None:
        # What is there now and no more: where records come faster than they go, the other signals have their turn too.
        left = len(queue.records)
        while left > 0 and (batch := self._take_in_hand(queue, signal)):
            self._publish(signal, self._packing.batches(signal, len(batch), functools.partial(encode, batch=batch)))
            if self.recorder is not None:
                self.recorder.release(batch)  # written down in the spool, if that is there
            left -= len(batch)

    def _take_in_hand(self, queue: SignalQueue[R], signal: Signal) -> list[R]:
        with self._moving:
            batch = queue.take()
            self._in_hand[signal] = len(batch)
            return batch

    def _drain_collections(self) -> None:
        while True:
            with self._moving:
                if not self._collections:
                    return
                found = self._collections.popleft()
                self._in_hand["metrics"] = found.points
            encode = functools.partial(Encoder.metrics, data=found.data, resource=found.resource)
            packed = self._packing.batches("metrics", found.points, encode, found.delivered, found.key)
            self._publish("metrics", packed)

    def _publish(self, signal: Signal, packed: tuple[list[Batch], int]) -> None:
        batches, failed = packed
        with self._moving:
            if failed:
                self.ledger.signals[signal].drop(DropReason.ENCODE_FAILED, failed)
            self._in_hand[signal] = 0
            for batch in batches:
                self._backlog.offer(batch, closing=self._closing)
            if self._backlog.leaves:
                self._backlog.move()
