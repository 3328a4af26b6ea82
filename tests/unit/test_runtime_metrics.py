"""What the process and runtime metrics say of this process and of its event loops, read through the SDK."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import resource
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import pytest
from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import TracerProvider

from otelkit import semconv
from otelkit.instrumentation import runtime
from otelkit.instrumentation.instruments import Callback
from otelkit.instrumentation.loop_timers import INTERVAL_S, LoopTimers, watch_loop_of_request, watch_running_loop
from otelkit.instrumentation.process import this_process

OBSERVED = (
    semconv.PROCESS_CPU_TIME,
    semconv.PROCESS_MEMORY_USAGE,
    semconv.PROCESS_MEMORY_VIRTUAL,
    semconv.PROCESS_THREAD_COUNT,
    semconv.PROCESS_DESCRIPTORS,
    semconv.PROCESS_UPTIME,
    semconv.CPYTHON_GC_COLLECTIONS,
    semconv.CPYTHON_GC_COLLECTED,
    semconv.CPYTHON_GC_UNCOLLECTABLE,
)
LAG = semconv.ASYNCIO_LOOP_LAG.name

Point = NumberDataPoint | HistogramDataPoint
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Telemetry:
    """A real meter provider whose metrics can be read at any time."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.meter = self.provider.get_meter("test")

    def points(self) -> dict[str, Sequence[Point]]:
        """The data points of one collection by the metric's name."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: [
                point for point in metric.data.data_points if isinstance(point, NumberDataPoint | HistogramDataPoint)
            ]
            for of_resource in (data.resource_metrics if data else ())
            for scope in of_resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, metric: semconv.Metric) -> dict[object, float]:
        """The value of each point by the value of its label, None where it has none."""
        return {
            next(iter((point.attributes or {}).values()), None): point.value
            for point in self.points().get(metric.name, ())
            if isinstance(point, NumberDataPoint)
        }

    def lag(self) -> HistogramDataPoint | None:
        """What has been recorded of event loops so far."""
        for point in self.points().get(LAG, ()):
            assert isinstance(point, HistogramDataPoint)
            return point
        return None


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Metrics with nothing installed."""
    made = Telemetry()
    yield made
    made.provider.shutdown()


@pytest.fixture
def installed(telemetry: Telemetry) -> Iterator[Telemetry]:
    """Metrics with the runtime's installed."""
    undo = runtime.install(telemetry.meter)
    yield telemetry
    undo()


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> LoopFactory:
    """Makes event loops of the standard library and, where it is installed, of uvloop."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    factory: LoopFactory = pytest.importorskip("uvloop").new_event_loop
    return factory


async def until(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    """Lets the loop run until a condition holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition was not met in time"
        await asyncio.sleep(0.01)


def run(loop: asyncio.AbstractEventLoop, main: Callable[[], object]) -> None:
    """Runs a coroutine function on a loop and closes the loop."""
    try:
        loop.run_until_complete(main())  # type: ignore[arg-type]
    finally:
        loop.close()


def test_every_metric_is_there_with_the_tables_labels(installed: Telemetry) -> None:
    """Name, unit, monotonicity and labels are those of the table."""
    points = installed.points()
    assert set(points) == {metric.name for metric in OBSERVED}
    for metric in OBSERVED:
        assert points[metric.name]
        for point in points[metric.name]:
            # One process has no use for the slot.
            assert set(point.attributes or {}) == set(metric.labels) - {semconv.PROCESS_SLOT}, metric.name


@pytest.fixture(params=["linux", "darwin"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Reads as on this platform; psutil, which reads it elsewhere, is here too."""
    name: str = request.param
    monkeypatch.setattr(runtime, "this_process", lambda: this_process(name))
    return name


def test_the_values_are_those_of_this_process(platform: str, installed: Telemetry) -> None:
    """What psutil says of this process right before and right after encloses what was read."""
    process = psutil.Process()
    before = process.cpu_times()
    cpu = installed.values(semconv.PROCESS_CPU_TIME)
    after = process.cpu_times()
    assert before.user <= cpu["user"] <= after.user
    assert before.system <= cpu["system"] <= after.system
    memory = installed.values(semconv.PROCESS_MEMORY_USAGE)[None]
    assert memory == pytest.approx(process.memory_info().rss, rel=0.2)
    virtual = installed.values(semconv.PROCESS_MEMORY_VIRTUAL)[None]
    assert virtual == pytest.approx(process.memory_info().vms, rel=0.2)
    uptime_s = installed.values(semconv.PROCESS_UPTIME)[None]
    # psutil's boot time is of whole seconds.
    slack_s = 1.1 if platform == "linux" else 0.1
    assert uptime_s == pytest.approx(time.time() - process.create_time(), abs=slack_s)
    assert installed.values(semconv.PROCESS_THREAD_COUNT)[None] == process.num_threads()
    assert installed.values(semconv.PROCESS_DESCRIPTORS)[None] == pytest.approx(process.num_fds(), abs=1)


def test_a_thread_and_a_descriptor_more_are_counted(installed: Telemetry) -> None:
    """The counts follow the process."""
    for thread in set(threading.enumerate()) - {threading.current_thread()}:  # one of an earlier test's may be ending
        if thread.name == "otelkit-loops":
            thread.join(timeout=10)
    threads = installed.values(semconv.PROCESS_THREAD_COUNT)[None]
    descriptors = installed.values(semconv.PROCESS_DESCRIPTORS)[None]
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    reading, writing = os.pipe()
    try:
        assert installed.values(semconv.PROCESS_THREAD_COUNT)[None] == threads + 1
        assert installed.values(semconv.PROCESS_DESCRIPTORS)[None] == descriptors + 2
    finally:
        end.set()
        thread.join()
        os.close(reading)
        os.close(writing)


def test_garbage_collections_are_counted_by_generation(installed: Telemetry) -> None:
    """A collection of the oldest generation, and the cycle that it freed, are in that generation's counts."""
    collections = installed.values(semconv.CPYTHON_GC_COLLECTIONS)
    collected = installed.values(semconv.CPYTHON_GC_COLLECTED)
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert set(collections) == {0, 1, 2}
    assert installed.values(semconv.CPYTHON_GC_COLLECTIONS)[2] > collections[2]
    assert installed.values(semconv.CPYTHON_GC_COLLECTED)[2] > collected[2]
    assert set(installed.values(semconv.CPYTHON_GC_UNCOLLECTABLE)) == {0, 1, 2}


def test_after_the_undo_nothing_is_observed(telemetry: Telemetry) -> None:
    """OpenTelemetry keeps the callbacks; they yield nothing, and a second undo does no harm."""
    undo = runtime.install(telemetry.meter)
    assert telemetry.points()
    undo()
    undo()
    assert not telemetry.points()


class Recorder(NoOpMeter):
    """Keeps the callbacks, so that a test can be the exporter's thread of another process."""

    def __init__(self) -> None:
        super().__init__("test")
        self.callbacks: dict[str, Callback] = {}

    def create_observable_counter(  # type: ignore[override]
        self, name: str, callbacks: Sequence[Callback], unit: str = "", description: str = ""
    ) -> None:
        """Keeps the callback."""
        self.callbacks[name] = callbacks[0]

    create_observable_up_down_counter = create_observable_counter  # type: ignore[assignment]
    create_observable_gauge = create_observable_counter  # type: ignore[assignment]

    def observe(self, metric: semconv.Metric) -> list[Observation]:
        """Calls the callback of a metric."""
        return list(self.callbacks[metric.name](CallbackOptions()))


# The child of a test runner with threads only reads /proc and exits.
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def in_child(work: Callable[[], str]) -> str:
    """What a function returns in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return answer


@forks
def test_a_forked_child_reports_itself(platform: str) -> None:
    """The child's uptime and CPU time begin with the child, though its parent had been read before."""
    recorder = Recorder()
    undo = runtime.install(recorder)
    try:
        parent_s = recorder.observe(semconv.PROCESS_UPTIME)[0].value
        forked_s = time.monotonic()
        child_s = float(in_child(lambda: str(recorder.observe(semconv.PROCESS_UPTIME)[0].value)))
        lived_s = time.monotonic() - forked_s
        slack_s = 0.1 if platform == "linux" else 1.1
        assert 0 <= child_s < lived_s + slack_s < parent_s + lived_s
    finally:
        undo()


@forks
@pytest.mark.usefixtures("platform")
def test_a_process_that_may_not_be_read_yields_nothing() -> None:
    """Errors end in no observation: here a child is out of descriptors to open /proc with. CPU time needs none."""
    recorder = Recorder()
    undo = runtime.install(recorder)
    try:
        of_process = [metric for metric in OBSERVED if metric.name.startswith("process.")]
        metrics = [metric for metric in of_process if metric is not semconv.PROCESS_CPU_TIME]
        for metric in metrics:
            assert recorder.observe(metric)

        def read() -> str:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
            return repr([recorder.observe(metric) for metric in metrics])

        assert in_child(read) == repr([[] for _ in metrics])
    finally:
        undo()


def test_psutil_and_asyncio_are_not_imported_before_they_are_needed() -> None:
    """Each takes tens of milliseconds: psutil is for other platforms, asyncio waits for the first loop."""
    code = (
        "import sys\n"
        "import otelkit.instrumentation.runtime\n"
        "slow = ('psutil', 'asyncio')\n"
        "for name in (*slow, 'otelkit.instrumentation.runtime'):\n"
        "    sys.modules.pop(name, None)\n"
        "from otelkit.instrumentation.runtime import install\n"
        "from opentelemetry.metrics import NoOpMeter\n"
        "install(NoOpMeter('test'))\n"
        "print([name for name in slow if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_blocking_call_in_the_loop_is_its_lag(installed: Telemetry, new_loop: LoopFactory) -> None:
    """A request that sleeps for 0.7 s makes the loop's timer, due after 0.5 s, late by 0.2 s at least."""

    async def main() -> None:
        watch_running_loop()
        time.sleep(0.7)
        await until(lambda: installed.lag() is not None)

    run(new_loop(), main)
    lag = installed.lag()
    assert lag is not None
    assert lag.max >= 0.19
    assert lag.explicit_bounds == semconv.ASYNCIO_LOOP_LAG.buckets


def test_an_idle_loop_has_hardly_any_lag_and_never_a_negative_one(installed: Telemetry, new_loop: LoopFactory) -> None:
    """Nothing but the machine delays its timers."""

    async def main() -> None:
        watch_running_loop()
        await until(lambda: (lag := installed.lag()) is not None and lag.count >= 2)

    run(new_loop(), main)
    lag = installed.lag()
    assert lag is not None
    assert lag.min >= 0
    assert lag.min < INTERVAL_S / 2


def test_requests_have_each_loop_of_a_thread_watched(installed: Telemetry, new_loop: LoopFactory) -> None:
    """A thread whose loop is watched is not asked again; its next loop is another one."""
    for count in (1, 2):

        async def main(count: int = count) -> None:
            watch_loop_of_request()
            await until(lambda: (lag := installed.lag()) is not None and lag.count >= count)

        run(new_loop(), main)


def test_a_loop_is_watched_once(installed: Telemetry, new_loop: LoopFactory) -> None:
    """A thousand requests on a loop leave one timer: two readings a second, not two thousand."""

    async def main() -> None:
        for _ in range(1000):
            watch_running_loop()
        await until(lambda: installed.lag() is not None)
        lag = installed.lag()
        assert lag is not None
        assert lag.count == 1

    run(new_loop(), main)


class Recorded:
    """A histogram that keeps which thread recorded each value."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def record(self, amount: float) -> None:
        """Keeps the caller's thread."""
        self.threads.append(threading.get_ident())


def timers(histogram: Any, interval_s: float) -> LoopTimers:
    """Timers whose lag this histogram gets."""
    made = LoopTimers(interval_s)
    made.listen(runtime.LoopLag(histogram))
    return made


def test_each_thread_has_its_loop_watched() -> None:
    """Loops of several threads are watched beside each other, each on its own thread."""
    histogram = Recorded()
    lag = timers(histogram, interval_s=0.05)
    ended: list[int] = []

    async def main() -> None:
        lag.watch(asyncio.get_running_loop())
        await until(lambda: threading.get_ident() in histogram.threads)
        ended.append(threading.get_ident())

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(ended) == sorted(thread.ident or 0 for thread in threads)


def test_the_time_in_which_a_loop_does_not_run_is_no_lag(installed: Telemetry, new_loop: LoopFactory) -> None:
    """A loop that is run now and again has late timers, and nobody who waits for them."""
    loop = new_loop()

    async def begin() -> None:
        watch_running_loop()

    async def go_on() -> None:
        await until(lambda: installed.lag() is not None)

    loop.run_until_complete(begin())
    time.sleep(INTERVAL_S + 0.3)
    run(loop, go_on)
    lag = installed.lag()
    assert lag is not None
    assert lag.max < 0.25


def test_a_watch_neither_prolongs_a_run_nor_makes_a_task(new_loop: LoopFactory) -> None:
    """The loop ends with its work, and the work is its only task, though the timer is a minute away."""
    lag = timers(Recorded(), interval_s=60)

    async def main() -> int:
        lag.watch(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    loop = new_loop()
    started_s = time.monotonic()
    tasks = loop.run_until_complete(main())
    loop.close()
    assert tasks == 1
    assert time.monotonic() - started_s < 30


def test_a_watch_does_not_keep_the_process_alive() -> None:
    """The interpreter ends with a watched loop that was neither stopped nor closed."""
    code = (
        "import asyncio\n"
        "from otelkit.instrumentation.loop_timers import LoopTimers\n"
        "from otelkit.instrumentation.runtime import LoopLag\n"
        "from opentelemetry.metrics import NoOpMeter\n"
        "lag = LoopTimers(interval_s=600)\n"
        "lag.listen(LoopLag(NoOpMeter('test').create_histogram('lag')))\n"
        "async def main(): lag.watch(asyncio.get_running_loop())\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(main())\n"
        "print('end')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "end\n")


@pytest.mark.parametrize("close", [True, False])
def test_a_watched_loop_is_freed(installed: Telemetry, close: bool) -> None:
    """Neither a closed loop nor one that was only dropped is kept, nor is a watch."""
    loop = asyncio.SelectorEventLoop()  # uvloop, should its policy be set, keeps one that was dropped with a timer

    async def main() -> None:
        watch_running_loop()

    loop.run_until_complete(main())
    ended = weakref.ref(loop)
    if close:
        loop.close()
    del loop
    with warnings.catch_warnings():
        # asyncio's own reproach for the loop that was dropped.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert ended() is None


@pytest.mark.slow
def test_a_loop_at_the_address_of_an_earlier_one_is_watched() -> None:
    """Memory is used again: what was known of the loop that was there must not stand for its successor."""
    histogram = Recorded()
    lag = timers(histogram, interval_s=0.001)
    addresses: list[int] = []

    async def main() -> None:
        lag.watch(asyncio.get_running_loop())
        recorded = len(histogram.threads)
        await until(lambda: len(histogram.threads) > recorded, timeout_s=5)

    while len(addresses) == len(set(addresses)):
        assert len(addresses) < 200, "no address was used again"
        loop = asyncio.new_event_loop()
        addresses.append(id(loop))
        run(loop, main)
        del loop
        gc.collect()


def test_a_watch_ends_with_the_undo(telemetry: Telemetry, new_loop: LoopFactory) -> None:
    """Once undone, timers record nothing more; a new installation watches the same loop anew."""

    async def main() -> None:
        undo = runtime.install(telemetry.meter)
        watch_running_loop()
        await until(lambda: telemetry.lag() is not None)
        undo()
        recorded = telemetry.lag()
        assert recorded is not None
        watch_running_loop()
        await asyncio.sleep(1.2 * INTERVAL_S)
        after = telemetry.lag()
        assert after is None or after.count == recorded.count
        other = Telemetry()
        undo_other = runtime.install(other.meter)
        watch_running_loop()
        await until(lambda: other.lag() is not None)
        undo_other()
        other.provider.shutdown()

    run(new_loop(), main)


def test_the_undo_of_an_earlier_installation_leaves_the_later(telemetry: Telemetry) -> None:
    """Only its own undo ends its measurements."""

    async def main() -> None:
        earlier = Telemetry()
        undo_earlier = runtime.install(earlier.meter)
        undo = runtime.install(telemetry.meter)
        undo_earlier()
        watch_running_loop()
        await until(lambda: telemetry.lag() is not None)
        undo()
        earlier.provider.shutdown()

    asyncio.run(main())


def test_the_first_requests_context_is_not_kept(installed: Telemetry) -> None:
    """The timer has a context of its own: no request's data live on in it, and no lag has its span."""

    class Request:
        pass

    variable: contextvars.ContextVar[Request] = contextvars.ContextVar("request")
    requests: list[weakref.ref[Request]] = []

    async def request() -> None:
        data = Request()
        variable.set(data)
        requests.append(weakref.ref(data))
        with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("request"):
            watch_running_loop()

    async def main() -> None:
        await asyncio.create_task(request())
        await until(lambda: installed.lag() is not None)
        gc.collect()
        assert requests[0]() is None

    asyncio.run(main())
    lag = installed.lag()
    assert lag is not None
    assert lag.exemplars == []


def test_without_an_installation_or_a_loop_nothing_happens(telemetry: Telemetry) -> None:
    """The ASGI layer calls it in any case, also on trio."""

    async def main() -> int:
        watch_running_loop()
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    undo = runtime.install(telemetry.meter)
    watch_running_loop()
    undo()


def test_a_closed_loop_is_not_watched(installed: Telemetry) -> None:
    """To watch it changes nothing and raises nothing."""
    loop = asyncio.new_event_loop()
    loop.close()
    timers(installed.meter.create_histogram("test.lag"), interval_s=INTERVAL_S).watch(loop)
    assert installed.lag() is None


def test_a_loop_that_goes_on_in_a_forked_child_is_watched_once() -> None:
    """By the timer that the child's next request makes, not by its parent's as well."""
    code = (
        "import asyncio, os\n"
        "from otelkit.instrumentation.loop_timers import LoopTimers\n"
        "from otelkit.instrumentation.runtime import LoopLag\n"
        "from opentelemetry.metrics import NoOpMeter\n"
        "loops = LoopTimers(interval_s=0.01)\n"
        "loops.listen(LoopLag(NoOpMeter('test').create_histogram('lag')))\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    loops.watch(loop)\n"
        "    if os.fork():\n"
        "        os.wait()\n"
        "        return\n"
        "    loops.watch(loop)\n"
        "    waited = loop.create_future()\n"
        "    loop.call_later(0.1, waited.set_result, None)\n"
        "    await waited\n"
        "    print(len(loop._scheduled), len(loops.timers()), flush=True)\n"
        "    os._exit(0)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr


def test_an_error_of_the_histogram_is_not_the_loops() -> None:
    """The loop's exception handler, which belongs to the application, sees nothing, and the watch goes on."""

    class Broken:
        calls = 0

        def record(self, amount: float) -> None:
            self.calls += 1
            raise RuntimeError("full")

    histogram = Broken()
    errors: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        timers(histogram, interval_s=0.01).watch(loop)
        await until(lambda: histogram.calls > 1)

    asyncio.run(main())
    assert not errors


def test_the_meter_of_the_api_is_enough() -> None:
    """Without an SDK installation does nothing, and undoes nothing."""
    meter: Meter = NoOpMeter("test")
    runtime.install(meter)()
