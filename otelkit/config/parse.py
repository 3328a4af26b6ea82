"""Parsers from a setting's text to its value; each raises ValueError with what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")

_LONGEST_MS = (1 << 31) - 1
_LONGEST_S = _LONGEST_MS / 1000.0

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


def text(value: str) -> str:
    """Any text, without surrounding white space."""
    return value.strip()


def boolean(value: str) -> bool:
    """`true` or `false` in any case, as the OpenTelemetry specification says; also 1/0, on/off, yes/no."""
    word = value.strip().lower()
    if word in ("true", "1", "on", "yes"):
        return True
    if word in ("false", "0", "off", "no"):
        return False
    raise ValueError("allowed are true and false")


def integer(*, minimum: int = 0, maximum: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers within bounds."""
    allowed = f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum else "")

    def parse(value: str) -> int:
        try:
            number = int(value.strip())
        except ValueError:
            raise ValueError(f"allowed is {allowed}") from None
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"allowed is {allowed}")
        return number

    return parse


def number(*, minimum: float = 0.0, maximum: float = math.inf, of: str = "") -> Callable[[str], float]:
    """A parser of finite numbers within bounds; `of` is the unit that its complaint names."""
    allowed = f"a number{of and ' of '}{of} from {minimum:g}" + ("" if maximum == math.inf else f" to {maximum:g}")

    def parse(value: str) -> float:
        try:
            result = float(value.strip())
        except ValueError:
            raise ValueError(f"allowed is {allowed}") from None
        if not math.isfinite(result) or not minimum <= result <= maximum:
            raise ValueError(f"allowed is {allowed}")
        return result

    return parse


def milliseconds(value: str) -> float:
    """A duration in milliseconds, returned in seconds (the specification's unit for every duration).

    More than 24 days are 24 days: sockets and locks take no longer ones, and Long.MAX_VALUE is a way to say `never`.
    """
    return min(number(of="milliseconds")(value) / 1000.0, _LONGEST_S)


def seconds(value: str) -> float:
    """A duration in seconds; as `milliseconds`, 24 days at most."""
    return min(number(of="seconds")(value), _LONGEST_S)


def timeout(parse: Callable[[str], float]) -> Callable[[str], float]:
    """The same parser, with 0 as no limit, as the specification says of time-outs."""
    return lambda value: parse(value) or _LONGEST_S


def choice(*words: str) -> Callable[[str], str]:
    """A parser of one word out of a few, in any case."""

    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in words:
            raise ValueError("allowed is one of " + ", ".join(words))
        return word

    return parse


def choices(*words: str) -> Callable[[str], tuple[str, ...]]:
    """A parser of a comma list of words out of a few, in any case, doubles removed; `none` stands alone."""
    one = choice(*words)

    def parse(value: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(one(part) for part in value.split(",") if part.strip()))
        if "none" in found and len(found) > 1:
            raise ValueError("`none` cannot be combined with others")
        return found

    return parse


def comma_list(value: str) -> tuple[str, ...]:
    """A comma list of texts, empty ones left out."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def pairs(value: str) -> Mapping[str, str]:
    """`key=value` pairs with percent-encoded values, as in OTEL_RESOURCE_ATTRIBUTES (W3C Baggage's form)."""
    found: dict[str, str] = {}
    for part in value.split(","):
        if not part.strip():
            continue
        key, equals, content = part.partition("=")
        if not equals or not key.strip():
            raise ValueError("allowed are key=value pairs, separated by commas")
        found[unquote(key.strip())] = unquote(content.strip())
    return found


def rates(value: str) -> Mapping[str, float]:
    """`/path=rate` pairs, each rate from 0 to 1; a path may hold `{name}`, `{name:path}` and `*`."""
    rate = number(maximum=1.0)
    found = {}
    for path, content in pairs(value).items():
        if not path.startswith("/"):
            raise ValueError("allowed are /path=rate pairs, separated by commas, with rates from 0 to 1")
        found[path] = rate(content)
    return found


def header_name(value: str) -> str:
    """The name of an HTTP header, in lower case."""
    return header(value.strip(), "")[0]


def networks(value: str) -> tuple[str, ...]:
    """A comma list of addresses, networks and the words `private`, `*` and `none`."""
    from ipaddress import ip_network

    found = []
    for part in comma_list(value):
        word = part.lower()
        try:
            found.append(word if word in ("private", "*", "none") else str(ip_network(word, strict=False)))
        except ValueError:
            raise ValueError("allowed are addresses, networks such as 10.0.0.0/8, `private`, `*` and `none`") from None
    if len(found) > 1 and "none" in found:
        raise ValueError("`none` cannot be combined with others")
    return tuple(found)


def header(name: str, content: str) -> tuple[str, str]:
    """An HTTP header, its name in lower case.

    Raises ValueError for a name that is no token and for a value with control characters (header injection).
    """
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("a header's name may hold letters, digits and !#$%&'*+.^_`|~- only")
    if any(ord(char) < 32 or ord(char) == 127 for char in content):
        raise ValueError("a header's value must not hold control characters")
    if any(ord(char) > 255 for char in content):
        raise ValueError("a header's value may hold Latin-1 characters only, HTTP carries no others")
    return name.lower(), content


def headers(value: str) -> Mapping[str, str]:
    """`name=value` pairs of HTTP headers with percent-encoded values; names become lower case. Raises as `header`."""
    return dict(header(name, content) for name, content in pairs(value).items())


def regular_expressions(value: str) -> tuple[re.Pattern[str], ...]:
    """A comma list of regular expressions. Every comma separates, as it does for OpenTelemetry's own packages."""
    found = []
    for part in comma_list(value):
        try:
            found.append(re.compile(part))
        except re.error as error:
            raise ValueError(
                f"{part!r} is no regular expression ({error}); allowed are regular expressions separated by commas,"
                " and every comma separates, also one within brackets"
            ) from None
    return tuple(found)


def url(value: str) -> str:
    """An http or https URL with a host; a bare host:port (gRPC's habit) becomes `//host:port`, scheme still open."""
    result = value.strip()
    if "://" not in result:
        result = f"//{result}"
    try:
        parts = urlsplit(result)
        valid = parts.scheme in ("", "http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(char.isspace() for char in result):
        raise ValueError("allowed is a URL such as http://localhost:4318")
    return result


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """The same parser, with a type that admits None as the default."""
    return parse


def to_text(value: object) -> str:
    """The text form of a value from a keyword argument or pyproject.toml, so that one parser reads all sources."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{_quote(str(key))}={_quote(str(item))}" for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(str(item) for item in value)
    return str(value)


def _quote(value: str) -> str:
    return value.replace("%", "%25").replace(",", "%2C").replace("=", "%3D")
