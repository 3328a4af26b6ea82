"""Draws one local trace: a line a span with its duration, the log records between them, equal siblings folded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from otelkit.console.details import (
    Failure,
    Part,
    duration,
    failed,
    failure,
    failures,
    first_line,
    outcome,
    own,
    telling,
)
from otelkit.console.local_traces import LocalTrace, LogEntry, Node
from otelkit.console.terminal import Look, clean, fitted

_FOLD_FROM = 6
_LONGEST_PATTERN = 3
_MOST_LINES = 200
_DEEPEST = 40
_LONGEST_NAME = 80
_GUTTER = 8
_BAR = 16
_WIDE = 100

Item = Node | LogEntry


@dataclass(slots=True)
class _Row:
    """A line before it is laid out; `begin_ns` and `end_ns` place its bar."""

    gutter: str
    guide: str
    parts: list[Part]
    begin_ns: int = 0
    end_ns: int = 0
    style: str = ""


@dataclass(slots=True)
class _Fold:
    """Equal siblings: the slowest one stands for them all."""

    item: Item
    times: int = 1
    total_ns: int = 0
    begin_ns: int = 0
    end_ns: int = 0


def draw(trace: LocalTrace, look: Look) -> list[Text]:
    """The lines of a local trace, at most about 200, each as wide as the look at most."""
    return _Drawing(trace, look).lines()


@dataclass(slots=True)
class _Drawing:
    trace: LocalTrace
    look: Look
    start_ns: int = 0
    length_ns: int = 1
    shapes: dict[Node, int] = field(default_factory=dict)
    told: dict[Node, set[tuple[str, str]]] = field(default_factory=dict)

    def lines(self) -> list[Text]:
        """Everything, laid out."""
        self._measure()
        rows = list(self._rows())
        lines = [self._laid_out(row) for row in rows[:_MOST_LINES]]
        notes = []
        if len(rows) > _MOST_LINES:
            notes.append(f"{len(rows) - _MOST_LINES} more lines")
        if self.trace.cut_spans:
            notes.append(f"{self.trace.cut_spans} more spans of this trace were not kept")
        if self.trace.cut_logs:
            notes.append(f"{self.trace.cut_logs} more log records of this trace were not kept")
        lines += [Text(f"{' ' * _GUTTER} {self.look.glyphs.ellipsis} {note}", "dim") for note in notes]
        return [fitted(line, self.look) for line in lines]

    # -- what the drawing needs to know of every span before the first line

    def _measure(self) -> None:
        nodes = list(self.trace.nodes.values())
        starts = [node.span.start_time or 0 for node in nodes]
        starts += [entry.time_ns for entry in self.trace.loose_logs if not nodes]
        self.start_ns = min(starts, default=0)
        self.length_ns = max(1, max((_end(node) for node in nodes), default=0) - self.start_ns)
        known: dict[object, int] = {}
        for node in reversed(nodes):  # children come after their parents
            here = {found.key for found in failures(node.span)}
            here |= {found.key for entry in node.logs if (found := failure(entry.attributes)) is not None}
            below: set[tuple[str, str]] = set().union(*(self.told.get(child, ()) for child in node.children))
            self.told[node] = here | below
            shape: object = id(node)
            if not node.logs and not here and not node.open:
                span = node.span
                text = (span.attributes or {}).get("db.query.text")
                shape = (span.name, span.kind, failed(span), text, tuple(self.shapes[child] for child in node.children))
            self.shapes[node] = known.setdefault(shape, len(known))

    def _rows(self) -> Iterator[_Row]:
        trace = self.trace
        many = len(trace.roots) != 1 or bool(trace.loose_logs)
        if many:
            yield self._heading()
            yield from self._below([*trace.roots, *trace.loose_logs], "", 1, {})
        else:
            root = trace.roots[0]
            row = self._span(_Fold(root), "")
            details = telling(root.span, {})
            row.parts += self._identity()
            if self._laid_out(row).cell_len <= self.look.width:
                row.parts += details
                yield row
            else:  # the trace id is there to be copied: on its own line it is whole
                row.parts[-2:] = details
                yield row
                yield _Row("", self.look.glyphs.pipe if root.children else "", self._identity())
            yield from self._inside(root, "", 1)

    def _heading(self) -> _Row:
        trace, glyphs = self.trace, self.look.glyphs
        name = f"{glyphs.later} later in {trace.continues}" if trace.continues else "a part of a trace"
        return _Row("", "", [(name, "bold"), *self._identity()])

    def _identity(self) -> list[Part]:
        clock = time.strftime("%H:%M:%S", time.localtime(self.start_ns / 1e9))
        return [
            (f"{clock}.{self.start_ns // 1_000_000 % 1000:03d}", "dim"),
            (f"trace {self.trace.trace_id:032x}", "dim"),
        ]

    # -- the lines

    def _inside(self, node: Node, guide: str, depth: int) -> Iterator[_Row]:
        """The lines under a span's own."""
        below: set[tuple[str, str]] = set().union(*(self.told[child] for child in node.children))
        below |= {found.key for entry in node.logs if (found := failure(entry.attributes)) is not None}
        raised = {found.key: found for found in failures(node.span) if found.key not in below}
        yield from self._below([*node.children, *node.logs], guide, depth, dict(node.span.attributes or {}), raised)

    def _below(
        self,
        items: Sequence[Item],
        guide: str,
        depth: int,
        above: dict[str, object],
        raised: dict[tuple[str, str], Failure] | None = None,
    ) -> Iterator[_Row]:
        glyphs = self.look.glyphs
        if depth > _DEEPEST:
            yield _Row("", guide + glyphs.corner, [(f"{glyphs.ellipsis} deeper spans", "dim")])
            return
        folds = list(self._folded(sorted(items, key=_time)))
        spans = [index for index, fold in enumerate(folds) if isinstance(fold.item, Node)]
        last_span = spans[-1] if spans else -1
        for index, fold in enumerate(folds):
            pipe = glyphs.pipe if index < last_span else " " * len(glyphs.pipe)
            if isinstance(fold.item, Node):
                row = self._span(fold, guide + (glyphs.tee if index < last_span else glyphs.corner), depth=depth)
                row.parts += telling(fold.item.span, above)
                yield row
                yield from self._inside(fold.item, guide + pipe, depth + 1)
            else:
                yield from self._log(fold.item, fold.times, guide + pipe)
        for found in (raised or {}).values():
            yield _Row("", guide + " " * len(glyphs.pipe), [(f"{glyphs.cross} ", "bold red"), *found.parts()])

    def _span(self, fold: _Fold, guide: str, *, depth: int = 0) -> _Row:
        """A span's line up to how it went."""
        assert isinstance(fold.item, Node)
        node, glyphs = fold.item, self.look.glyphs
        span = node.span
        parts: list[Part] = []
        if not depth and self.trace.continues:
            parts.append((f"{glyphs.later} later in {self.trace.continues}: ", "dim"))
        if failed(span):
            parts.append((f"{glyphs.cross} ", "bold red"))
        style = f"{'' if depth else 'bold'} {'red' if failed(span) else ''}".strip()
        parts.append((clean(span.name, _LONGEST_NAME), style))
        if fold.times > 1:
            parts += [(" ", ""), (f"{glyphs.times} {fold.times}", "bold yellow")]
            parts.append((f"{duration(fold.total_ns / fold.times)} each", "dim"))
        parts += outcome(span)
        if failed(span) and not self.told[node]:
            reason = span.status.description or (span.attributes or {}).get("error.type")
            if reason:
                parts.append((str(reason), "red"))
        if node.open:
            parts.append(("still running", "yellow"))
        start = span.start_time or 0
        if fold.times > 1:
            return _Row(duration(fold.total_ns), guide, parts, fold.begin_ns, fold.end_ns)
        length = duration(_end(node) - start) if not node.open else glyphs.ellipsis
        return _Row(length, guide, parts, start, _end(node) if not node.open else self.start_ns + self.length_ns)

    def _log(self, entry: LogEntry, times: int, guide: str) -> Iterator[_Row]:
        glyphs = self.look.glyphs
        gutter = f"+{duration(entry.time_ns - self.start_ns)}" if entry.time_ns >= self.start_ns else ""
        style = "red" if entry.severity >= 17 else "yellow" if entry.severity >= 13 else "dim"
        cross: list[Part] = [(f"{glyphs.cross} ", "bold red")] if entry.severity >= 17 else []
        level: list[Part] = [(f"{entry.level} ", f"bold {style}" if entry.severity >= 13 else style)]
        found = failure(entry.attributes)
        # An exception's own record repeats in its text what its attributes say.
        if found is not None and entry.message == f"{found.type}: {found.message}":
            yield _Row(gutter, guide, [*(cross or level), *found.parts()], style="dim")
            return
        said = (first_line(entry.message), style if entry.severity >= 13 else "")
        count: list[Part] = [(" ", ""), (f"{glyphs.times} {times}", "bold yellow")] if times > 1 else []
        rest = own(entry.attributes, {}) if entry.event else [(entry.logger, "dim")]
        yield _Row(gutter, guide, [*cross, *level, said, *count, *rest], style="dim")
        if found is not None and (found.message or found.place):
            yield _Row("", guide + "  ", [(f"{glyphs.cross} ", "bold red"), *found.parts()])

    def _folded(self, items: Sequence[Item]) -> Iterator[_Fold]:
        """Runs of at least six equal siblings as one each, also where up to three kinds alternate."""
        kinds = [self._kind(item) for item in items]
        at = 0
        while at < len(items):
            for period in range(1, _LONGEST_PATTERN + 1):
                pattern = kinds[at : at + period]
                times = 1
                while kinds[at + times * period : at + (times + 1) * period] == pattern:
                    times += 1
                if times >= _FOLD_FROM:
                    end = at + times * period
                    for offset in range(period):
                        yield self._fold(items[at + offset : end : period])
                    at = end
                    break
            else:
                yield _Fold(items[at])
                at += 1

    def _kind(self, item: Item) -> object:
        if isinstance(item, Node):
            return self.shapes[item]
        if failure(item.attributes) is not None:
            return id(item)
        return item.level, item.message, item.logger, *(own(item.attributes, {}) if item.event else ())

    @staticmethod
    def _fold(items: Sequence[Item]) -> _Fold:
        nodes = [item for item in items if isinstance(item, Node)]
        if not nodes:
            return _Fold(items[0], len(items))
        lengths = [_end(node) - (node.span.start_time or 0) for node in nodes]
        slowest = max(range(len(nodes)), key=lengths.__getitem__)
        return _Fold(
            nodes[slowest],
            len(nodes),
            sum(lengths),
            nodes[0].span.start_time or 0,
            max(_end(node) for node in nodes),
        )

    def _laid_out(self, row: _Row) -> Text:
        line = Text().append(row.gutter.rjust(_GUTTER), row.style or "cyan").append(" ")
        if self.look.width >= _WIDE:
            line.append(self._bar(row), "blue").append(" ")
        line.append(row.guide, "dim")
        before = " "
        for text, style in row.parts:
            if text:
                line.append("" if before.endswith(" ") or text == " " else "  ").append(clean(text), style)
                before = text
        return line

    def _bar(self, row: _Row) -> str:
        """When in the trace the row's span ran."""
        if not row.end_ns:
            return " " * _BAR
        begin = min(_BAR - 1, max(0, int((row.begin_ns - self.start_ns) / self.length_ns * _BAR)))
        end = min(_BAR, max(begin + 1, round((row.end_ns - self.start_ns) / self.length_ns * _BAR)))
        return " " * begin + self.look.glyphs.bar * (end - begin) + " " * (_BAR - end)


def _time(item: Item) -> int:
    return (item.span.start_time or 0) if isinstance(item, Node) else item.time_ns


def _end(node: Node) -> int:
    return node.span.end_time or node.span.start_time or 0
