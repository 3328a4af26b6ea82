"""What one setting is: its variable, its type, its default, and the sentence that documents it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import copy
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar, overload

from typing_extensions import Self

from otelkit.config.parse import milliseconds, seconds, timeout, to_text

T = TypeVar("T")
_CREDENTIALS = re.compile(r"(?:(?<=://)|^)[^/?#@]*@|(?<=\?).*", re.DOTALL)
Source = Literal["argument", "environment", "pyproject", "default"]


class Values(Protocol):
    """Whatever holds resolved settings by the name of their variable."""

    def __getitem__(self, env: str, /) -> object: ...


class Setting(Generic[T]):
    """One setting, declared as an attribute of `Settings`; reading it from an instance gives its value.

    `env` is the environment variable, `parse` its parser (ValueError says what is allowed), `default` what holds when
    no source names it, `doc` what it does, in one sentence of the reference. A `secret`'s value is never printed. The
    name of the attribute, `key`, is the keyword of `bootstrap` and the key in pyproject.toml.

    `unit` is what the variable counts, empty for what is no quantity; `parse_key` and `key_unit` are the same for the
    keyword and the key.
    """

    __slots__ = ("default", "doc", "env", "key", "key_unit", "parse", "parse_key", "secret", "unit")

    def __init__(
        self,
        env: str,
        parse: Callable[[str], T],
        default: T,
        doc: str,
        *,
        secret: bool = False,
        key: str = "",
        unit: str = "",
    ) -> None:
        self.env = env
        self.parse = parse
        self.default = default
        self.doc = doc
        self.secret = secret
        self.key = key
        self.unit = unit
        self.parse_key = parse
        self.key_unit = unit

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Values, owner: type) -> T: ...
    def __get__(self, instance: Values | None, owner: type) -> Self | T:
        if instance is None:
            return self
        return instance[self.env]  # type: ignore[return-value]

    def under(self, env: str, key: str, doc: str) -> Self:
        """The same setting of another variable."""
        other = copy(self)
        other.env, other.key, other.doc = env, key, doc
        return other

    def named_by(self, source: Source) -> str:
        """What a source calls the setting: the variable, the keyword, the key with its table."""
        return {"argument": self.key, "pyproject": f"[tool.otelkit] {self.key}"}.get(source, self.env)

    def default_text(self) -> str:
        """The default as the variable would have it; empty where there is none."""
        value: object = self.default
        if value is None or value in ((), {}):
            return ""
        if self.unit == "ms" and isinstance(value, float):
            value = value * 1000
        return to_text(int(value) if isinstance(value, float) and value.is_integer() else value)

    def masked(self, raw: str) -> str:
        """The text as it may be printed; of an address user, password and query are hidden."""
        if self.secret:
            return "***" if raw else raw
        return _CREDENTIALS.sub("***", raw) if self.env.endswith("_ENDPOINT") else raw


class Duration(Setting[float]):
    """A duration in seconds, whose variable takes milliseconds, as the specification says; its keyword and key, whose
    name ends in `_s`, take seconds. With `zero_is_endless` 0 means no limit.
    """

    __slots__ = ()

    def __init__(self, env: str, default: float, doc: str, *, zero_is_endless: bool = False) -> None:
        in_variable, in_key = (timeout(milliseconds), timeout(seconds)) if zero_is_endless else (milliseconds, seconds)
        super().__init__(env, in_variable, default, doc, unit="ms")
        self.parse_key = in_key
        self.key_unit = "s"


class NotHonoured(NamedTuple):
    """A standard variable that otelkit does not act on, and why; set, it is named in one WARNING."""

    env: str
    doc: str


class Resolved(NamedTuple):
    """A setting's value, the text it was read from (empty for a default) and the source of it."""

    value: object
    raw: str
    source: Source


class Problem(NamedTuple):
    """A text that a setting does not allow: where it was found, what it said (masked), what is allowed."""

    name: str
    shown: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.name}={self.shown!r}: {self.allowed}"


ResolvedByEnv = Mapping[str, Resolved]
