"""Resolves every setting: keyword argument, environment, `[tool.otelkit]` of pyproject.toml, default, in this order."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from otelkit.config.hints import hints
from otelkit.config.not_honoured import NOT_HONOURED
from otelkit.config.parse import choice, to_text
from otelkit.config.setting import Problem, Resolved, Setting, Source
from otelkit.config.settings import CHOICES, INSTRUMENT_PREFIX, TABLE, Settings
from otelkit.errors import ConfigurationError

_KEYS: Mapping[str, Setting[object]] = {setting.key: setting for setting in TABLE.values()}

# Where TOML may have `otelkit` as a part of a key: [tool.otelkit], [tool."otelkit"], otelkit = {…} under [tool]. Most
# files with the word in them only require the package, and the TOML parser's import would make each start slower.
_AS_A_KEY = re.compile(rb"""(?:^|[.{,])[ \t]*(["']?)otelkit\1[ \t]*[].=]|[.]otelkit""", re.MULTILINE)


class Loaded(NamedTuple):
    """The settings, what was wrong with their sources, and what is allowed and was hardly meant; each is a full
    sentence, secrets masked.
    """

    settings: Settings
    problems: tuple[str, ...]
    hints: tuple[str, ...]


def load(
    arguments: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    directory: Path | None = None,
) -> Loaded:
    """Resolves the settings.

    `arguments` are bootstrap's keyword arguments (None values count as not given), `directory` is where the search
    for pyproject.toml begins (default: the current one). A text that a setting does not allow is a problem, and the
    next source counts; an empty environment variable counts as unset, as the OpenTelemetry specification says.

    Raises ConfigurationError for unknown or wrong keyword arguments, and for any problem if OTELKIT_STRICT is true.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in (arguments or {}).items() if value is not None}
    instrument_arguments = given.pop("instrument", {})
    if unknown := [key for key in given if key not in _KEYS]:
        raise ConfigurationError(_unknown(unknown[0], "keyword argument of bootstrap"))
    problems: list[str] = []
    file, pyproject = _pyproject(directory, problems)
    instrument_pyproject = pyproject.pop("instrument", {})
    problems += [_unknown(key, f"key of [tool.otelkit] in {file}") for key in pyproject if key not in _KEYS]

    told = list(problems)  # as a WARNING, which says what is used instead
    resolved: dict[str, Resolved] = {}
    for env, setting in TABLE.items():
        resolved[env] = Resolved(setting.default, "", "default")
        wrong: list[Problem] = []
        for source, parse, raw in _candidates(setting, given, environ, pyproject):
            try:
                resolved[env] = Resolved(parse(raw), raw, source)
                break
            except ValueError as error:
                problem = Problem(setting.named_by(source), setting.masked(raw), str(error))
                if source == "argument":
                    raise ConfigurationError(f"bootstrap: {problem}") from None
                wrong.append(problem)
        source = resolved[env].source
        used = f"that of {source}" if source != "default" else "none" if setting.default is None else "the default"
        problems += [str(problem) for problem in wrong]
        told += [f"{problem}; using {used}" for problem in wrong]
    others = [
        f"{row.env} is set and does nothing: {row.doc}" for row in NOT_HONOURED if environ.get(row.env, "").strip()
    ]
    instrument = _instrument(instrument_arguments, environ, instrument_pyproject, others)
    settings = Settings(resolved, instrument)
    refuse([*problems, *others], settings)
    return Loaded(settings, (*told, *others), tuple(hints(settings)))


def refuse(problems: Sequence[str], settings: Settings) -> None:
    """Raises ConfigurationError with what is wrong, if anything is and OTELKIT_STRICT is on."""
    if problems and settings.strict:
        sentences = "; ".join(problem.rstrip(".") for problem in problems)
        raise ConfigurationError(
            f"{sentences}. Nothing is started while OTELKIT_STRICT is on: correct this, or switch OTELKIT_STRICT off to"
            " start with a WARNING"
        )


def _candidates(
    setting: Setting[object],
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    pyproject: Mapping[str, object],
) -> Iterator[tuple[Source, Callable[[str], object], str]]:
    if setting.key in arguments:
        yield "argument", setting.parse_key, to_text(arguments[setting.key])
    if environ.get(setting.env, "").strip():
        yield "environment", setting.parse, environ[setting.env]
    if setting.key in pyproject:
        yield "pyproject", setting.parse_key, to_text(pyproject[setting.key])


def _instrument(
    arguments: object, environ: Mapping[str, str], pyproject: object, problems: list[str]
) -> Mapping[str, str]:
    found: dict[str, str] = {}
    sources: list[tuple[str, Mapping[str, object]]] = []
    for name, value in (("[tool.otelkit.instrument]", pyproject), ("bootstrap's `instrument`", arguments)):
        if not isinstance(value, Mapping):
            message = f"{name}={value!r}: allowed is a table from library to one of {', '.join(CHOICES)}"
            if value is arguments:
                raise ConfigurationError(message)
            problems.append(message)
            value = {}
        sources.append((name, value))
    from_environment = {
        key[len(INSTRUMENT_PREFIX) :].lower(): value
        for key, value in environ.items()
        if key.startswith(INSTRUMENT_PREFIX) and value.strip()
    }
    sources.insert(1, (INSTRUMENT_PREFIX.rstrip("_"), from_environment))
    for name, table in sources:
        for library, raw in table.items():
            try:
                found[library.lower().replace("-", "_")] = choice(*CHOICES)(to_text(raw))
            except ValueError as error:
                problem = Problem(f"{name} {library}", to_text(raw), str(error))
                if table is arguments:
                    raise ConfigurationError(str(problem)) from None
                problems.append(str(problem))
    return found


def _unknown(key: str, where: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, _KEYS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "; `otelkit env` lists them all"
    return f"{key!r} is not a {where}{hint}"


def _pyproject(directory: Path | None, problems: list[str]) -> tuple[Path | None, dict[str, object]]:
    try:
        start = (directory or Path.cwd()).resolve()
        file = next(
            (path for folder in (start, *start.parents) if (path := folder / "pyproject.toml").is_file()),
            None,
        )
        if file is None:
            return None, {}
        content = file.read_bytes()
    except OSError:
        return None, {}
    if not _AS_A_KEY.search(content):
        return file, {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        problems.append(f"{file} cannot be read: {error}")
        return file, {}
    tool = document.get("tool")
    table = tool.get("otelkit", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        problems.append(f"[tool.otelkit] in {file} is no table")
        return file, {}
    return file, cast("dict[str, object]", dict(table))
