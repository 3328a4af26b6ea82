"""Generated programs over OpenTelemetry's public trace API, and the values that go into spans and log records."""

from __future__ import annotations

import enum
import http
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    get_current_span,
    set_span_in_context,
    use_span,
)

# -- values


class Colour(enum.IntEnum):
    RED = 1


class Word(str, enum.Enum):
    HELLO = "hello"


class Name(str):
    """A text that is no plain one."""

    __slots__ = ()


class Ratio(float):
    """A number that is no plain one."""


class Titled:
    """An object with a text of its own."""

    def __str__(self) -> str:
        return "a title that is longer than most limits"


class Shown:
    """An object with a representation of its own."""

    def __repr__(self) -> str:
        return "<shown>"


class Bare:
    """An object with neither."""


BARE = Bare()
LETTERS = ["", "a", "two words", "naïve", "a text that is longer than most limits"]
KEYS = ["a", "b", "c", "d", "e", "f", "g.h", "", Name("a"), Name("n")]
_ODD_KEYS = [1, 2.5, None, False, True, b"k", Titled(), BARE, ("a", 1), "\ud800"]
_PLAIN = ["", "x", "seven letters", "naïve", True, False, 0, 1, -1, 300, (1 << 63) - 1, -(1 << 63), None]
_FLOATS = [0.0, -0.0, 1.5, 1e308, 5e-324, math.nan, math.inf, -math.inf]
_BYTES = [b"", b"bytes\x00\xff"]
_SUBCLASSES = [Colour.RED, http.HTTPStatus.OK, Word.HELLO, Name("a name of its own"), Ratio(0.5)]
_OBJECTS = [Titled(), Shown(), BARE, object, 1j, frozenset("a"), range(3), bytearray(b"ab")]
_NESTED: list[Any] = [
    [],
    {},
    ["a", "seven letters"],
    [1, 2.5, None, True, "mixed", b"b"],
    (1, (2, [3, {"four": (5,)}])),
    {"a": 1, "nested": {"b": ["seven letters", None], "": "no key"}},
    {"": "no key"},
    [Titled(), BARE, Colour.RED, Name("seven letters")],
    {"object": Titled(), "bare": BARE},
]
_ODD = [1 << 63, -(1 << 63) - 1, 1 << 200, "\ud800", "a\udfff" * 4, [1 << 64], {1: "one", "1": "two", None: 0}]
_VALUES = [*_PLAIN, *_FLOATS, *_BYTES, *_SUBCLASSES, *_OBJECTS, *_NESTED]


def deep_values() -> st.SearchStrategy[Any]:
    """Values in values."""
    return st.recursive(
        st.one_of(st.sampled_from([*_VALUES, *_ODD]), st.text(), st.integers(), st.floats(), st.binary(max_size=6)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.lists(st.tuples(st.sampled_from([*KEYS, *_ODD_KEYS]), inner), max_size=3).map(dict),
        ),
        max_leaves=8,
    )


def handed(value: Any) -> Any:
    """A copy whose containers the callee gets, and `spoil` changes."""
    if type(value) is list:
        return [handed(item) for item in value]
    if type(value) is dict:
        return {key: handed(item) for key, item in value.items()}
    return value


def spoil(value: Any) -> None:
    """Changes everything that can be changed after it was handed over."""
    if type(value) is list:
        for item in value:
            spoil(item)
        value.append("changed afterwards")
    elif type(value) is dict:
        for item in value.values():
            spoil(item)
        value.clear()


# -- programs


class Boom(Exception):
    """What programs raise."""


class Stop(BaseException):
    """What programs raise, and what is no error."""


Raised = Literal["ValueError", "Boom", "KeyError", "chained", "Stop"]
RAISED: tuple[Raised, ...] = ("ValueError", "Boom", "KeyError", "chained", "Stop")
THROWN = (ValueError, Boom, KeyError, Stop)
T = TypeVar("T")


def throw(kind: Raised) -> None:
    """Raises an exception of a kind."""
    if kind == "Stop":
        raise Stop
    if kind == "chained":
        try:
            raise Boom("the cause")
        except Boom as cause:
            raise ValueError("the effect") from cause
    raise {"ValueError": ValueError("bo\nom"), "Boom": Boom(), "KeyError": KeyError("key")}[kind]


def caught(kind: Raised) -> BaseException:
    """An exception that was raised."""
    try:
        throw(kind)
    except THROWN as error:
        return error
    raise AssertionError("nothing was raised")


@dataclass
class Run:
    """A program that runs: its tracers, and the spans in the order of their starts."""

    tracers: Sequence[Tracer]
    spans: list[Span] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def span(self, number: int) -> Span:
        return self.spans[number % len(self.spans)] if self.spans else INVALID_SPAN

    def do(self, steps: Sequence[Any]) -> None:
        for step in steps:
            step.do(self)

    def note(self, what: object) -> None:
        """Notes what a program can see of itself."""
        self.notes.append(repr(what))


@dataclass
class Start:
    """The arguments of a span's start; `parent` is none (the current context), a span's number, a context or a span."""

    name: str
    parent: int | SpanContext | Span | Context | None
    kind: SpanKind
    attributes: Mapping[Any, Any] | None
    links: Sequence[tuple[SpanContext | int, Mapping[Any, Any] | None]] | None
    start_time: int | None
    tracer: int

    def arguments(self, run: Run) -> tuple[Tracer, dict[str, Any]]:
        parent = self.parent
        if isinstance(parent, SpanContext):
            parent = NonRecordingSpan(parent)
        elif isinstance(parent, int):
            parent = run.span(parent)
        context = parent if parent is None or isinstance(parent, Context) else set_span_in_context(parent, Context())
        links = None if self.links is None else [Link(linked(run, to), handed(with_)) for to, with_ in self.links]
        return run.tracers[self.tracer % len(run.tracers)], {
            "name": self.name,
            "context": context,
            "kind": self.kind,
            "attributes": handed(self.attributes),
            "links": links,
            "start_time": self.start_time,
        }

    def do(self, run: Run) -> None:
        tracer, arguments = self.arguments(run)
        span = tracer.start_span(**arguments)
        spoil(arguments["attributes"])
        run.spans.append(span)
        run.note(span.is_recording())


def linked(run: Run, to: SpanContext | int) -> SpanContext:
    """The context that a link goes to: a given one, or that of a span of the program."""
    return to if isinstance(to, SpanContext) else run.span(to).get_span_context()


@dataclass
class Call:
    """A call on a span of the program, with arguments that are changed afterwards."""

    span: int
    method: str
    arguments: tuple[Any, ...]

    def do(self, run: Run) -> None:
        given = [handed(argument) for argument in self.arguments]
        if self.method == "add_link":
            given[0] = linked(run, given[0])
        if self.method == "record_exception":
            given[0] = caught(given[0])
        span = run.span(self.span)
        getattr(span, self.method)(*given)
        for argument in given:
            spoil(argument)
        run.note(span.is_recording())


@dataclass
class Block:
    """A part of the program below a current span, in each of the ways to say so."""

    start: Start
    how: Literal["manager", "sync", "async", "span", "use_span"]
    record_exception: bool
    set_status_on_exception: bool
    end_on_exit: bool
    body: Sequence[Any]
    raised: Raised | None

    def do(self, run: Run) -> None:
        try:
            self._run(run)
        except THROWN as error:
            run.note(type(error))
        run.note("left")

    def _run(self, run: Run) -> None:
        tracer, arguments = self.start.arguments(run)
        options: dict[str, Any] = {
            "record_exception": self.record_exception,
            "set_status_on_exception": self.set_status_on_exception,
        }
        if self.how == "span":
            with tracer.start_span(**arguments, **options) as span:
                self._inside(run, span)
        elif self.how == "use_span":
            span = tracer.start_span(**arguments)
            with use_span(span, self.end_on_exit, **options):
                self._inside(run, span)
        else:
            current = tracer.start_as_current_span(**arguments, **options, end_on_exit=self.end_on_exit)
            if self.how == "manager":
                with current as span:
                    self._inside(run, span)
            elif self.how == "sync":

                @current
                def function(number: int) -> int:
                    self._inside(run, None)
                    return number

                run.note(function(3))
            else:

                @current
                async def coroutine_function(number: int) -> int:
                    self._inside(run, None)
                    return number

                run.note(awaited(coroutine_function(4)))

    def _inside(self, run: Run, span: Span | None) -> None:
        run.spans.append(get_current_span() if span is None else span)
        run.do(self.body)
        if self.raised is not None:
            throw(self.raised)


def awaited(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the coroutine waits")


class Maker:
    """Makes things by a seed: Hypothesis's own strategies, some hundred draws a program, take longer than its runs.

    `odd` things are those that OTLP has no place for, and that the SDK's encoder drops.
    """

    def __init__(self, seed: int, *, odd: bool) -> None:
        self._random = random.Random(seed)
        self._odd = odd
        self.choose = self._random.choice

    def upto(self, most: int) -> range:
        """A range of random length."""
        return range(self._random.randint(0, most))

    def maybe(self) -> bool:
        return self._random.random() < 0.5

    def key(self) -> Any:
        return self.choose(_ODD_KEYS if self._odd and self._random.random() < 0.2 else KEYS)

    def value(self) -> Any:
        return self.choose(_ODD if self._odd and self._random.random() < 0.2 else _VALUES)

    def attributes(self) -> dict[Any, Any] | None:
        """Attributes, simple ones half of the time, or none."""
        shape = self._random.random()
        if shape < 0.2:
            return None
        if shape < 0.5:
            return {self.choose("abcdef"): self._random.randint(0, 9) for _ in self.upto(6)}
        return {self.key(): self.value() for _ in self.upto(6)}

    def time(self) -> int:
        return self.choose((1, 7, 1_000, 10**12 + 345_678, 10**15))

    def state(self) -> TraceState | None:
        return self.choose((None, TraceState(), TraceState([("vendor", "1"), ("other", "x")])))

    def context(self) -> SpanContext:
        """The context of a span elsewhere, a valid one most of the time."""
        valid = self._random.random() < 0.8
        return SpanContext(
            self.choose((1, 1 << 127, (1 << 64) + 5) if valid else (0, 3)),
            self.choose((7, 1 << 63)) if valid else 0,
            self.maybe(),
            TraceFlags(self._random.randint(0, 3)),
            self.state(),
        )

    def number(self) -> int:
        """A span of the program."""
        return self._random.randint(0, 5)

    def linked(self) -> SpanContext | int:
        return self.context() if self.maybe() else self.number()

    def start(self) -> Start:
        rare = (INVALID_SPAN, Context(), Context({"other": 1}))
        return Start(
            name=self.choose(("one", "two", "GET /é", "")),
            parent=self.choose((None, None, self.number(), self.number(), self.context(), self.choose(rare))),
            kind=self.choose(tuple(SpanKind)),
            attributes=self.attributes(),
            links=None if self.maybe() else [(self.linked(), self.attributes()) for _ in self.upto(3)],
            start_time=self.time() if self.maybe() else None,
            tracer=self._random.randint(0, 2),
        )

    def status(self) -> tuple[Any, ...]:
        code, description = self.choose(tuple(StatusCode)), self.choose((None, *LETTERS))
        return (code, description) if self.maybe() else (Status(code, description), self.choose((None, "beside")))

    def call(self) -> Call:
        makers: dict[str, Callable[[], tuple[Any, ...]]] = {
            "set_attribute": lambda: (self.key(), self.value()),
            "set_attributes": lambda: (self.attributes() or {},),
            "add_event": lambda: (self.choose(LETTERS), self.attributes(), self.time()),
            "add_link": lambda: (self.linked(), self.attributes()),
            "set_status": self.status,
            "update_name": lambda: (self.choose(LETTERS),),
            "record_exception": lambda: (self.choose(RAISED), self.attributes(), self.time(), self.maybe()),
            "end": lambda: (self.time() if self.maybe() else None,),
        }
        method = self._random.choices(tuple(makers), (6, 4, 3, 2, 3, 1, 2, 1))[0]
        return Call(self.number(), method, makers[method]())

    def step(self, depth: int = 2) -> Start | Call | Block:
        """A step; blocks have blocks in them down to `depth`."""
        kind = self._random.choices((self.start, self.call, self.block if depth else self.call), (3, 7, 2))[0]
        return self.block(depth) if kind == self.block else kind()

    def block(self, depth: int = 1) -> Block:
        return Block(
            start=self.start(),
            how=self.choose(("manager", "sync", "async", "span", "use_span")),
            record_exception=self.maybe(),
            set_status_on_exception=self.maybe(),
            end_on_exit=self.maybe(),
            body=[self.step(depth - 1) for _ in self.upto(4)],
            raised=self.choose(RAISED) if self.maybe() else None,
        )


def made(make: Callable[[Maker], T], *, odd: bool) -> st.SearchStrategy[T]:
    """What `make` makes."""

    @st.composite
    def drawn(draw: st.DrawFn) -> T:
        return make(Maker(draw(st.integers(0, (1 << 48) - 1)), odd=odd))

    return drawn()


def programs(*, odd: bool) -> st.SearchStrategy[list[Start | Call | Block]]:
    """A span, and what is done then."""
    return st.builds(
        lambda first, rest: [first, *rest],
        made(Maker.start, odd=odd),
        st.lists(made(Maker.step, odd=odd), min_size=2, max_size=14),
    )


# -- samplers


class Chosen(Sampler):
    """Gives its answers in turn, and keeps what it was asked."""

    def __init__(self, answers: Sequence[tuple[Decision, Mapping[Any, Any] | None, TraceState | None]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self.asked.append(repr((parent_context is None, trace_id, name, kind, attributes, links and len(links))))
        decision, given, state = self._answers[len(self.asked) % len(self._answers)]
        return SamplingResult(decision, given, state)

    def get_description(self) -> str:
        return "Chosen"


def answers() -> st.SearchStrategy[Any]:
    """What a sampler may answer, in turn."""
    answer = made(lambda maker: (maker.choose(tuple(Decision)), maker.attributes(), maker.state()), odd=True)
    return st.lists(answer, min_size=1, max_size=4)
