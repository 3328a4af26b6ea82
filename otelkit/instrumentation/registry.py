"""Chooses for each library who instruments it, says why, and does so when the application imports it."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from otelkit.config.settings import Settings
from otelkit.errors import UnsupportedLibrary
from otelkit.instrumentation import blocked_loops, doubles, http_clients, imports, running_loops, sentry, unhandled
from otelkit.instrumentation.library import CONTRIB_MODULES, DRIVERS, LIBRARIES, NEVER_BY_THEMSELVES, Library
from otelkit.runtime import guard
from otelkit.versions import installed_version

logger = logging.getLogger("otelkit.instrumentation")

Choice = Literal["otelkit", "native", "contrib", "off"]
Undo = Callable[[], None]

_GROUP = "opentelemetry_instrumentor"
_STABLE = ("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")


@dataclass(frozen=True, slots=True)
class Decision:
    """Who instruments a library, why, and whether that is in force yet (the library has been imported)."""

    library: str
    choice: Choice
    reason: str = ""
    version: str = ""
    active: bool = False

    def __str__(self) -> str:
        return f"{self.library}={self.choice}" + (f" ({self.reason})" if self.reason else "")


class Registry:
    """The decisions of one opening. `install` arranges the hooks, `uninstall` takes back whatever was instrumented."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._undo: list[tuple[str, Undo]] = []
        self.decisions: dict[str, Decision] = {}
        self._contrib = {entry.name: entry for entry in entry_points(group=_GROUP)}
        self._problems: list[str] = []

    def install(self) -> None:
        """Decides for every installed library, and instruments those that are imported already.

        Raises UnsupportedLibrary under OTELKIT_STRICT for an installed library in a version that does not fit.
        """
        # Contrib reads it once, at its first instrumentor; the environment is the only way to tell it.
        os.environ.setdefault(*_STABLE)
        if self._settings.instrument("logging") == "off":
            self.decisions["logging"] = Decision("logging", "off", "by setting")
        else:
            self._instrument("logging", "otelkit.instrumentation.logging", Decision("logging", "otelkit"))
            self._undo.append(("logging", doubles.skip_exported_records()))
            self._prevent("opentelemetry.instrumentation.logging.handler", doubles.skip_exported_records_of_contrib)
        self._prevent("opentelemetry.instrumentation.asgi", doubles.pass_recorded_requests)
        threading = self._settings.instrument("threading")
        if threading == "off":
            self.decisions["threading"] = Decision("threading", "off", "by setting")
        elif threading != "contrib":
            self._instrument("threading", "otelkit.instrumentation.threads", Decision("threading", "otelkit"))
        self._undo.append(("unhandled errors", unhandled.install(self._settings)))
        self._undo.append(("blocked event loops", blocked_loops.install(self._settings)))
        self._undo.append(("event loops that run", running_loops.install(self._settings)))
        for library in LIBRARIES:
            self._library(library)
        for name, entry in sorted(self._contrib.items()):
            if name not in self.decisions:
                self._contributed(name, entry)
        self._prevent("sentry_sdk.worker", sentry.install)
        known = {*self.decisions, *(library.name for library in LIBRARIES), *self._contrib}
        for name in self._settings.chosen_instrumentations():
            if name not in {found.replace("-", "_") for found in known}:
                self._problem(f"OTELKIT_INSTRUMENT_{name.upper()} names no library that is known here")
        if self._problems and self._settings.strict:
            raise UnsupportedLibrary("; ".join(self._problems) + " (OTELKIT_STRICT is on)")

    def uninstall(self) -> None:
        """Takes back every instrumentation, the newest first."""
        imports.forget_all()
        while self._undo:
            name, undo = self._undo.pop()
            with guard.guarded(f"switching off the instrumentation of {name}"):
                undo()

    def _library(self, library: Library) -> None:
        found = installed_version(library.distribution)
        if found is None:
            return
        chosen = self._settings.instrument(library.name)
        decision = Decision(library.name, "otelkit", version=found)
        if chosen is None and not library.supports(found):
            self._problem(f"{library.name} {found} is outside of {library.range}, which otelkit was tested with")
            decision = replace(decision, choice="off", reason=f"{found} is outside of {library.range}")
        elif chosen == "off":
            decision = replace(decision, choice="off", reason="by setting")
        elif chosen == "native" and library.records_itself(found):
            decision = replace(decision, choice="native", reason="by setting")
        elif chosen == "native":
            self._problem(f"{library.name} {found} has no telemetry of its own that otelkit could leave it to")
            decision = replace(decision, reason="it has none of its own")
        elif chosen == "contrib":
            entry = next((self._contrib[name] for name in library.contrib if name in self._contrib), None)
            if entry is None:
                self._problem(f"OTELKIT_INSTRUMENT_{library.name.upper()}=contrib, but its package is not installed")
                decision = replace(decision, reason="its contrib package is not installed")
            else:
                self._arrange_contrib(entry, library.module, replace(decision, choice="contrib", reason="by setting"))
                return
        own = [self._contrib[name] for name in library.contrib if name in self._contrib]
        if decision.choice == "otelkit" and any(map(doubles.switched_on, own)):
            decision = replace(decision, choice="contrib", reason="the application has switched it on", active=True)
        self.decisions[library.name] = decision
        if decision.choice == "otelkit":
            for entry in own:
                self._prevent(entry.module, lambda entry=entry: doubles.keep_off(entry))  # type: ignore[misc]
        module = f"otelkit.instrumentation.{library.install}"
        if decision.choice == "otelkit":
            imports.when_imported(library.module, lambda: self._instrument(library.name, module, decision))
        elif decision.choice == "off" and library.records_itself(found):
            imports.when_imported(library.module, lambda: self._silence(library.name, module))

    def _instrument(self, name: str, module: str, decision: Decision) -> None:
        undo: Undo = importlib.import_module(module).install(self._settings)
        self._undo.append((name, undo))
        self.decisions[name] = replace(decision, active=True)

    def _silence(self, name: str, module: str) -> None:
        undo: Undo = importlib.import_module(module).silence(self._settings)
        self._undo.append((name, undo))

    def _prevent(self, module: str, install: Callable[[], Undo]) -> None:
        """Prevents what a module would record twice, when it is imported."""
        imports.when_imported(module, lambda: self._undo.append((module, install())))

    def _contributed(self, name: str, entry: EntryPoint) -> None:
        chosen = self._settings.instrument(name.replace("-", "_"))
        decision = Decision(name, "contrib", "by setting" if chosen else "")
        ours = [library for library in LIBRARIES if name in library.contrib]
        if ours or chosen == "off":
            if not ours:
                self.decisions[name] = replace(decision, choice="off", reason="by setting")
            return
        if chosen is None:
            reason = NEVER_BY_THEMSELVES.get(name, "")
            sqlalchemy = self.decisions.get("sqlalchemy")
            if name in DRIVERS and sqlalchemy is not None and sqlalchemy.choice != "off":
                reason = "under sqlalchemy"
            if reason:
                self.decisions[name] = replace(decision, choice="off", reason=reason)
                return
        self._arrange_contrib(entry, CONTRIB_MODULES.get(name, name.replace("-", "_")), decision)

    def _arrange_contrib(self, entry: EntryPoint, module: str, decision: Decision) -> None:
        self.decisions[decision.library] = decision
        imports.when_imported(module, lambda: self._instrument_contrib(entry, decision))

    def _instrument_contrib(self, entry: EntryPoint, decision: Decision) -> None:
        from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

        conflict = get_dist_dependency_conflicts(entry.dist) if entry.dist is not None else None
        if conflict is not None:
            self._problem(f"the contrib instrumentation of {decision.library} does not fit: {conflict}")
            self.decisions[decision.library] = replace(decision, choice="off", reason=str(conflict))
            return
        instrumentor = entry.load()()
        instrumentor.instrument(skip_dep_check=True, **http_clients.options(entry.name))
        self._undo.append((decision.library, instrumentor.uninstrument))
        self.decisions[decision.library] = replace(decision, active=True)

    def _problem(self, text: str) -> None:
        self._problems.append(text)
        logger.warning("%s", text)

    def summary(self) -> Iterator[str]:
        """One word a library."""
        return map(str, self.shown())

    def shown(self) -> Iterator[Decision]:
        """The decisions for all of otelkit's own libraries, and for those of contrib's that somebody could miss or
        wonder about.
        """
        for name, decision in list(self.decisions.items()):
            own = decision.version or name == "logging"
            imported = CONTRIB_MODULES.get(name, name.replace("-", "_")) in sys.modules
            if name == "threading" and decision.choice == "otelkit":
                continue  # nothing that somebody would look for
            if own or decision.active or (imported and name not in NEVER_BY_THEMSELVES):
                yield decision
