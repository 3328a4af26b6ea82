"""Puts together what was given and what was detected, and decides which of them wins."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import TypeVar

from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.util.types import AttributeValue

from otelkit.resource import container, git, platforms, process
from otelkit.resource.files import Sources
from otelkit.versions import installed_version, version_of

_logger = logging.getLogger(__name__)
_LOCAL = Sources()
# Revision and branch, as GitHub Actions, GitLab CI and Jenkins' git plugin document them.
_CI_VARIABLES = (
    ("GITHUB_SHA", "GITHUB_REF_NAME"),
    ("CI_COMMIT_SHA", "CI_COMMIT_REF_NAME"),
    ("GIT_COMMIT", "GIT_BRANCH"),
)

T = TypeVar("T")


def detect(
    *,
    service_name: str | None,
    service_version: str | None,
    revision: str | None,
    environment: str | None,
    attributes: Mapping[str, str | int | float | bool | Sequence[str]],
    environ: Mapping[str, str],
    application_distribution: str | None = None,
    sources: Sources = _LOCAL,
) -> dict[str, AttributeValue]:
    """The attributes of the resource: the arguments, else `attributes`, else what is detected.

    `attributes` are those of OTEL_RESOURCE_ATTRIBUTES. An empty text counts as not given. Reads local files
    only, runs no program, waits for nothing and never raises: a detector that fails contributes nothing.
    `service.name`, `service.instance.id`, `process.pid` and `telemetry.*` are always there.
    """
    given: dict[str, AttributeValue] = {key: value for key, value in attributes.items() if value != ""}
    if "deployment.environment" in given:
        given.setdefault("deployment.environment.name", given["deployment.environment"])
    arguments = {
        "service.name": service_name,
        "service.version": service_version,
        "vcs.ref.head.revision": revision,
        "deployment.environment.name": environment,
    }
    given.update({key: value for key, value in arguments.items() if value})

    platform = _guarded(partial(platforms.recognise, environ), platforms.NONE)
    found = _surroundings(platform, environ, sources.root)
    name = str(given.get("service.name") or platform.service_name or _unknown_service(found))
    found["service.name"] = name
    found["service.instance.id"] = new_instance_id(platform.replica, os.getpid())
    if "service.version" not in given:
        found["service.version"] = (
            _version(application_distribution) or _version(name, built_locally=True) or platform.service_version
        )
    # A branch belongs to the revision that it was found with, so both or none.
    if "vcs.ref.head.revision" not in given:
        head = _guarded(partial(_find_head, platform, environ, sources.directory), None)
        if head is not None:
            found["vcs.ref.head.revision"], found["vcs.ref.head.name"] = head.revision, head.name
    found["deployment.environment.name"] = platform.environment
    return {key: _valid(value) for key, value in {**found, **given}.items() if value is not None}


def new_instance_id(explicit: str | None, pid: int) -> str:
    """A `service.instance.id`: random, or one that many processes share, made unique with the pid."""
    return str(uuid.uuid4()) if explicit is None else f"{explicit}-{pid}"


def _surroundings(platform: platforms.Platform, environ: Mapping[str, str], root: Path) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        **platform.attributes,
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk_version,
        "telemetry.distro.name": "otelkit",
        "telemetry.distro.version": _version("otelkit") or "0",
        "process.pid": os.getpid(),
    }
    nothing: dict[str, AttributeValue] = {}
    found.update(_guarded(partial(container.detect_container, environ, root), nothing))
    found.update(_guarded(partial(container.detect_kubernetes, environ, root), nothing))
    found.update(_guarded(partial(process.detect_process, root), nothing))
    containerized = (
        platform is not platforms.NONE
        or "container.id" in found
        or _guarded(partial(container.is_containerized, environ, root), False)
    )
    found.update(_guarded(partial(process.detect_host, root, containerized=containerized), nothing))
    return found


def _unknown_service(found: Mapping[str, AttributeValue]) -> str:
    executable = found.get("process.executable.name")
    return f"unknown_service:{executable}" if executable else "unknown_service"


def _find_head(platform: platforms.Platform, environ: Mapping[str, str], directory: Path) -> git.Head | None:
    variables = ((environ.get(revision), environ.get(name)) for revision, name in _CI_VARIABLES)
    for revision, name in ((platform.revision, platform.branch), *variables):
        if revision and git.is_revision(revision):
            return git.Head(revision, name or None)
    return git.read_head(directory)


def _version(distribution: str | None, *, built_locally: bool = False) -> str | None:
    """The version of an installed distribution; if `built_locally`, of none that came from a package index.

    A service may well be called "celery" or "redis", and is not at the version of that library.
    """
    return _guarded(partial(_installed_version, distribution, built_locally), None) if distribution else None


def _installed_version(name: str, built_locally: bool) -> str | None:
    if not built_locally:
        return installed_version(name)
    try:
        distribution = Distribution.from_name(name)
    except PackageNotFoundError:
        return None
    # Installers write the file for all but what comes from an index (PEP 610).
    return None if distribution.read_text("direct_url.json") is None else version_of(distribution)


def _valid(value: AttributeValue) -> AttributeValue:
    """The value, with what UTF-8 cannot encode (stray bytes of an environment variable) replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return tuple(_valid(item) for item in value)
    return value


def _guarded(detector: Callable[[], T], nothing: T) -> T:
    try:
        return detector()
    except Exception:
        _logger.debug("a resource detector failed", exc_info=True)
        return nothing
