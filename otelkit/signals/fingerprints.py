"""What an error is recognised by: equal over deploys, edits, callers and texts, different for another place or type.

From the type and the application's own functions that led there, as module and function. Neither line numbers, nor
texts, nor libraries' frames count, nor how deep a recursion was, nor how far out the exception was recorded.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")
_MOST_FRAMES = 10_000
_MOST_CAUSES = 10
_OURS = f"{Path(__file__).resolve().parents[1]}/"
_PASSED_THROUGH = (_OURS, contextlib.__file__, functools.__file__)
"""What stands between a function and its caller and is neither's: decorators."""
# Python 3.12 has no frames for comprehensions, and a module's own is there or not by how the program was started.
_NO_PLACES = ("<listcomp>", "<dictcomp>", "<setcomp>", "<module>")


def type_name(error: BaseException | type[BaseException]) -> str:
    """The qualified name of an exception's type, builtins without their module."""
    kind = error if isinstance(error, type) else type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def in_application(file: str) -> bool:
    """Whether a frame's file is the application's own: neither the standard library's nor an installed package's."""
    return not file.startswith(_not_the_applications()) and "site-packages" not in file and "dist-packages" not in file


@functools.cache
def _not_the_applications() -> tuple[str, ...]:
    import sysconfig  # reads how Python was built, which a process that asks for no place need not

    paths = sysconfig.get_paths()
    libraries = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if paths.get(name)}
    return (*libraries, _OURS, "<")


def fingerprint(error: BaseException) -> str:
    """16 hex digits. An explicit cause counts with its own places; of a group, each kind of its exceptions once."""
    import hashlib  # loads OpenSSL, which a process without exceptions need not

    text = _description(error, set())
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _description(error: BaseException, seen: set[int]) -> str:
    seen.add(id(error))
    parts = [type_name(error), *_places(error)]
    members = getattr(error, "exceptions", None)
    if isinstance(members, tuple):
        kinds = {
            _description(each, seen) for each in members if isinstance(each, BaseException) and id(each) not in seen
        }
        parts.append(f"[{','.join(sorted(kinds))}]")
    cause = error.__cause__
    if cause is not None and id(cause) not in seen and len(seen) < _MOST_CAUSES:
        parts.append(f"from {_description(cause, seen)}")
    return "|".join(parts)


def _places(error: BaseException) -> list[str]:
    """The application's functions from the place of the error outwards, up to the library that called them.

    Beyond that stand servers, middlewares and how the program was started. Where no frame is the application's, all
    frames of the traceback count.
    """
    frames = _frames(error.__traceback__)
    own: list[str] = []
    inward = list(reversed(frames))
    outer = frames[0].f_back if frames else None
    while outer is not None and len(inward) < _MOST_FRAMES:
        inward.append(outer)
        outer = outer.f_back
    for frame in inward:
        file = frame.f_code.co_filename
        if in_application(file):
            own.append(_place(frame))
        elif own and not file.startswith(_PASSED_THROUGH):
            break
    return _without_recursion(own or [_place(frame) for frame in inward[: len(frames)]], error)


def _frames(tb: TracebackType | None) -> list[FrameType]:
    found = []
    while tb is not None:
        found.append(tb.tb_frame)
        tb = tb.tb_next
    return found


def _place(frame: FrameType) -> str:
    spec = frame.f_globals.get("__spec__")
    module = frame.f_globals.get("__name__")
    if module == "__main__":
        module = getattr(spec, "name", None)  # of `python -m`
    if not isinstance(module, str):
        module = frame.f_code.co_filename.rpartition("/")[2].removesuffix(".py")
    return f"{_NUMBERS.sub('0', module)}:{frame.f_code.co_name}"


def _without_recursion(inward: list[str], error: BaseException) -> list[str]:
    """Each place once, from the outside in. Where Python's limit was met is by chance: of a RecursionError what follows
    the functions that call each other does not count.
    """
    if isinstance(error, RecursionError):
        times = Counter(inward)
        inner = next((index for index, place in enumerate(inward) if times[place] > 1), 0)
        inward = inward[inner:]
    places = list(dict.fromkeys(reversed(inward)))
    return [place for place in places if not place.endswith(_NO_PLACES)] or places
