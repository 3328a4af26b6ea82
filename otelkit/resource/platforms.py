"""Recognises the platforms that describe themselves in environment variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry.util.types import AttributeValue

Environ = Mapping[str, str]

_INDEX = re.compile(r"[0-9]{1,9}")


class Platform(NamedTuple):
    """What a platform says of the process; None where it says nothing.

    `replica` is unique among the running copies of the service, and the same for all processes of one copy.
    """

    attributes: Mapping[str, AttributeValue] = MappingProxyType({})
    service_name: str | None = None
    service_version: str | None = None
    replica: str | None = None
    environment: str | None = None
    revision: str | None = None
    branch: str | None = None


NONE = Platform()


def recognise(environ: Environ) -> Platform:
    """The platform that the environment belongs to, or an empty one."""
    for platform in _PLATFORMS:
        if (found := platform(environ)) is not None:
            return found
    return NONE


def _railway(environ: Environ) -> Platform | None:
    """Railway: https://docs.railway.com/reference/variables"""
    if not environ.get("RAILWAY_PROJECT_ID"):
        return None
    return Platform(
        _cloud("railway", region=environ.get("RAILWAY_REPLICA_REGION")),
        service_name=environ.get("RAILWAY_SERVICE_NAME"),
        replica=environ.get("RAILWAY_REPLICA_ID"),
        environment=environ.get("RAILWAY_ENVIRONMENT_NAME"),
        revision=environ.get("RAILWAY_GIT_COMMIT_SHA"),
        branch=environ.get("RAILWAY_GIT_BRANCH"),
    )


def _fly(environ: Environ) -> Platform | None:
    """Fly.io: https://fly.io/docs/machines/runtime-environment/

    The version is the tag of the image: the machine's version changes with any of its settings.
    """
    if not environ.get("FLY_MACHINE_ID"):
        return None
    image = environ.get("FLY_IMAGE_REF", "").partition("@")[0].rpartition("/")[2]
    return Platform(
        _cloud("fly_io", region=environ.get("FLY_REGION")),
        service_name=environ.get("FLY_APP_NAME"),
        service_version=image.partition(":")[2] or None,
        replica=environ["FLY_MACHINE_ID"],
    )


def _render(environ: Environ) -> Platform | None:
    """Render: https://render.com/docs/environment-variables"""
    if environ.get("RENDER") != "true":
        return None
    return Platform(
        _cloud("render"),
        service_name=environ.get("RENDER_SERVICE_NAME"),
        replica=environ.get("RENDER_INSTANCE_ID"),
        revision=environ.get("RENDER_GIT_COMMIT"),
        branch=environ.get("RENDER_GIT_BRANCH"),
    )


def _heroku(environ: Environ) -> Platform | None:
    """Heroku: https://devcenter.heroku.com/articles/dyno-metadata

    All but DYNO needs a Labs feature of the application. The mapping is
    https://opentelemetry.io/docs/specs/semconv/resource/cloud-provider/heroku/
    """
    if not (environ.get("DYNO") or environ.get("HEROKU_DYNO_ID")):
        return None
    return Platform(
        _cloud("heroku"),
        service_name=environ.get("HEROKU_APP_NAME"),
        service_version=environ.get("HEROKU_RELEASE_VERSION"),
        replica=environ.get("HEROKU_DYNO_ID"),
        # The slug's commit goes stale when deploys no longer come from git push.
        revision=environ.get("HEROKU_BUILD_COMMIT") or environ.get("HEROKU_SLUG_COMMIT"),
    )


def _google(environ: Environ) -> Platform | None:
    """Cloud Run and its functions: https://cloud.google.com/run/docs/container-contract

    Region and instance are known only to Google's metadata server, which is not asked. Knative sets the
    variables of a service too, but in Kubernetes.
    """
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    platform, job = "gcp_cloud_run", {}
    if environ.get("K_SERVICE") and environ.get("K_CONFIGURATION"):
        name, version = environ["K_SERVICE"], environ.get("K_REVISION")
        if environ.get("FUNCTION_TARGET"):
            platform = "gcp_cloud_functions"
    elif environ.get("CLOUD_RUN_WORKER_POOL"):
        name, version = environ["CLOUD_RUN_WORKER_POOL"], environ.get("CLOUD_RUN_WORKER_POOL_REVISION")
    elif environ.get("CLOUD_RUN_JOB"):
        name, version = environ["CLOUD_RUN_JOB"], None
        job = _present({"gcp.cloud_run.job.execution": environ.get("CLOUD_RUN_EXECUTION")})
        task = environ.get("CLOUD_RUN_TASK_INDEX", "")
        if _INDEX.fullmatch(task):
            job["gcp.cloud_run.job.task_index"] = int(task)
    else:
        return None
    function = _present({"faas.name": name, "faas.version": version})
    return Platform({**_cloud("gcp", platform=platform), **function, **job}, service_name=name, service_version=version)


def _vercel(environ: Environ) -> Platform | None:
    """Vercel: https://vercel.com/docs/environment-variables/system-environment-variables

    It names no service: a project has a name only in its dashboard.
    """
    if environ.get("VERCEL") != "1":
        return None
    return Platform(
        _cloud("vercel", region=environ.get("VERCEL_REGION")),
        environment=environ.get("VERCEL_TARGET_ENV") or environ.get("VERCEL_ENV"),
        revision=environ.get("VERCEL_GIT_COMMIT_SHA"),
        branch=environ.get("VERCEL_GIT_COMMIT_REF"),
    )


_PLATFORMS: tuple[Callable[[Environ], Platform | None], ...] = (
    _railway,
    _fly,
    _render,
    _heroku,
    _google,
    _vercel,
)


def _cloud(provider: str, *, platform: str | None = None, region: str | None = None) -> dict[str, AttributeValue]:
    return _present({"cloud.provider": provider, "cloud.platform": platform, "cloud.region": region})


def _present(attributes: Mapping[str, str | None]) -> dict[str, AttributeValue]:
    return {key: value for key, value in attributes.items() if value}
