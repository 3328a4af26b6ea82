"""Measures Celery's broker from outside of the workers: messages in the queues, the age of the oldest, workers alive.

The age comes from what otelkit's publishers write into a message: a header, which a look at Redis' list shows, and
AMQP's timestamp, which RabbitMQ tells by its management API (a message that was fetched to look at it would be
redelivered). Nothing is taken from a queue.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from otelkit import semconv
from otelkit.instrumentation import instruments
from otelkit.instrumentation.celery_tasks import carrier_in
from otelkit.runtime import guard
from otelkit.signals.suppression import silence

logger = logging.getLogger("otelkit.celery")

_ANSWER_S = 1.0
"""How long workers have to answer: each measurement waits for so long."""
_TIMEOUT_S = 5.0
_MANAGEMENT_PORT = 15672


@dataclass(frozen=True)
class Reading:
    """What was measured: by queue, where it is known."""

    lengths: Mapping[str, int] = field(default_factory=dict)
    ages_s: Mapping[str, float] = field(default_factory=dict)
    workers: int | None = None


class Monitor:
    """Measures every `interval_s` in a thread of its own; metrics tell the last reading, none while the broker is away.

    `queues` are those of the app where none are named. `management` is the URL of RabbitMQ's management API, with its
    user if that is not the broker's; by default port 15672 of the broker's host.
    """

    def __init__(
        self, app: Any, *, interval_s: float, queues: Sequence[str] = (), management: str | None = None
    ) -> None:
        self._app = app
        self._interval_s = interval_s
        self.queues = tuple(queues) or tuple(app.amqp.queues)
        self._management = management
        self._told = False
        self._reading = Reading()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otelkit-celery-monitor", daemon=True)
        meter = get_meter("otelkit.celery")
        instruments.observe(meter, semconv.CELERY_QUEUE_MESSAGES, [self._read_lengths])
        instruments.observe(meter, semconv.CELERY_QUEUE_AGE, [self._read_ages])
        instruments.observe(meter, semconv.CELERY_WORKERS, [self._read_workers])

    def start(self) -> None:
        """Begins to measure."""
        self._thread.start()

    def stop(self) -> None:
        """Measures no more; the metrics end."""
        self._stopped.set()
        self._reading = Reading()

    def join(self) -> None:
        """Waits until it is stopped."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    def _read_lengths(self, options: CallbackOptions) -> Iterable[Observation]:
        return [_of_queue(queue, length) for queue, length in self._reading.lengths.items()]

    def _read_ages(self, options: CallbackOptions) -> Iterable[Observation]:
        return [_of_queue(queue, age_s) for queue, age_s in self._reading.ages_s.items()]

    def _read_workers(self, options: CallbackOptions) -> Iterable[Observation]:
        workers = self._reading.workers
        return [Observation(workers)] if workers is not None else []

    def _run(self) -> None:
        with silence():
            while not self._stopped.is_set():
                reading = Reading()
                with guard.guarded("the measurement of Celery's broker"):
                    reading = self.measure()
                if not self._stopped.is_set():
                    self._reading = reading
                self._stopped.wait(self._interval_s)

    def measure(self) -> Reading:
        """Asks the broker and the workers."""
        options = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
        with self._app.connection_for_read(connect_timeout=_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_S)
            kind = connection.transport.driver_type
            if kind == "redis":
                connection.transport_options = {**options, **connection.transport_options}
                lengths, ages_s = _in_redis(connection.default_channel, self.queues)
            else:
                lengths = _declared(connection, self.queues)
                ages_s = self._in_rabbitmq(connection, lengths) if kind == "amqp" else {}
            answers = self._app.control.ping(timeout=_ANSWER_S, connection=connection)
            return Reading(lengths, ages_s, len(answers or ()))

    def _in_rabbitmq(self, connection: Any, lengths: Mapping[str, int]) -> dict[str, float]:
        """The ages by RabbitMQ's management API, in whole seconds."""
        base = self._management or f"http://{connection.hostname}:{_MANAGEMENT_PORT}"
        parts = urllib.parse.urlsplit(base)
        user = urllib.parse.unquote(parts.username or "") or connection.userid or "guest"
        password = urllib.parse.unquote(parts.password or "") or connection.password or "guest"
        told = base64.b64encode(f"{user}:{password}".encode()).decode()
        where = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        vhost = urllib.parse.quote(connection.virtual_host or "/", safe="")
        ages_s = {}
        for queue in lengths:
            url = f"{where}/api/queues/{vhost}/{urllib.parse.quote(queue, safe='')}"
            request = urllib.request.Request(url, headers={"authorization": f"Basic {told}"})
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                    found = json.load(answer)
            except (OSError, ValueError) as error:
                if not self._told:
                    self._told = True
                    logger.warning(
                        "RabbitMQ's management API at %s does not tell (%s): celery.queue.oldest_message.age is not"
                        " measured; name its address by OTELKIT_CELERY_MANAGEMENT_ENDPOINT",
                        where,
                        error,
                    )
                return {}
            head = found.get("head_message_timestamp")
            if isinstance(head, (int, float)):
                ages_s[queue] = max(0.0, time.time() - head)
            elif not lengths[queue]:
                ages_s[queue] = 0.0
        return ages_s


def _of_queue(queue: str, value: float) -> Observation:
    return Observation(value, {"messaging.destination.name": queue})


def _in_redis(channel: Any, queues: Iterable[str]) -> tuple[dict[str, int], dict[str, float]]:
    """Kombu keeps one list a priority, the oldest message at its right end."""
    lengths, ages_s = {}, {}
    prefix = getattr(channel, "global_keyprefix", "")
    with channel.conn_or_acquire() as client:
        for queue in queues:
            keys = [f"{queue}{channel.sep}{step}" if step else queue for step in channel.priority_steps]
            # LLEN is among the commands that kombu gives the prefix of its keys, LINDEX is not.
            lengths[queue] = sum(int(client.llen(key)) for key in keys)
            heads = [client.lindex(f"{prefix}{key}", -1) for key in keys] if lengths[queue] else []
            published = [found for head in heads if head and (found := _published_s(head)) is not None]
            if published or not lengths[queue]:
                ages_s[queue] = max(0.0, time.time() - min(published)) if published else 0.0
    return lengths, ages_s


def _published_s(message: bytes | str) -> float | None:
    try:
        found = carrier_in(json.loads(message).get("headers")).get("published")
    except (ValueError, AttributeError):
        return None
    return float(found) if isinstance(found, (int, float)) else None


def _declared(connection: Any, queues: Iterable[str]) -> dict[str, int]:
    """The lengths of those queues that the broker has."""
    lengths = {}
    for queue in queues:
        try:
            # A channel of its own: to ask for a queue that is not there closes it.
            with connection.channel() as channel:
                lengths[queue] = int(channel.queue_declare(queue=queue, passive=True).message_count)
        except connection.channel_errors:
            continue
    return lengths
