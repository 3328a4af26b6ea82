"""What each platform's documented variables say of a service."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from opentelemetry.util.types import AttributeValue

from otelkit.resource import Sources, detect

REVISION = "4f1c6f0b7b9c2c2f8f6dd2c4b1a3e5d7c9b8a706"
PID = os.getpid()
ABOUT = ("service.", "cloud.", "faas.", "gcp.", "deployment.", "vcs.")


def found(root: Path, environ: dict[str, str]) -> dict[str, AttributeValue]:
    """What is said of service and cloud on an otherwise empty machine."""
    resource = detect(
        service_name=None,
        service_version=None,
        revision=None,
        environment=None,
        attributes={},
        environ=environ,
        sources=Sources(root=root, directory=root),
    )
    return {name: value for name, value in resource.items() if name.startswith(ABOUT)}


RAILWAY = {
    "RAILWAY_PROJECT_ID": "a1",
    "RAILWAY_SERVICE_NAME": "shop",
    "RAILWAY_REPLICA_ID": "r1",
    "RAILWAY_REPLICA_REGION": "us-west2",
    "RAILWAY_ENVIRONMENT_NAME": "production",
    "RAILWAY_GIT_COMMIT_SHA": REVISION,
    "RAILWAY_GIT_BRANCH": "main",
}
FLY = {
    "FLY_APP_NAME": "shop",
    "FLY_MACHINE_ID": "3d8d9014b32d89",
    "FLY_REGION": "ams",
    "FLY_IMAGE_REF": "registry.fly.io/shop:deployment-01H9RK9EYO9PGNBYAKGXSHV0PH",
}
RENDER = {
    "RENDER": "true",
    "RENDER_SERVICE_NAME": "shop",
    "RENDER_INSTANCE_ID": "srv-c1-hibernate-2",
    "RENDER_GIT_COMMIT": REVISION,
    "RENDER_GIT_BRANCH": "main",
}
HEROKU = {
    "DYNO": "web.1",
    "HEROKU_APP_NAME": "shop",
    "HEROKU_DYNO_ID": "1vac4117",
    "HEROKU_RELEASE_VERSION": "v42",
    "HEROKU_BUILD_COMMIT": REVISION,
    "HEROKU_SLUG_COMMIT": "f" * 40,
}
CLOUD_RUN = {"K_SERVICE": "shop", "K_REVISION": "shop-00007-abc", "K_CONFIGURATION": "shop"}
CLOUD_RUN_JOB = {
    "CLOUD_RUN_JOB": "import",
    "CLOUD_RUN_EXECUTION": "import-x7",
    "CLOUD_RUN_TASK_INDEX": "3",
}
CLOUD_RUN_POOL = {"CLOUD_RUN_WORKER_POOL": "worker", "CLOUD_RUN_WORKER_POOL_REVISION": "worker.1"}
VERCEL = {
    "VERCEL": "1",
    "VERCEL_ENV": "preview",
    "VERCEL_REGION": "cdg1",
    "VERCEL_GIT_COMMIT_SHA": REVISION,
    "VERCEL_GIT_COMMIT_REF": "main",
}
HEAD = {"vcs.ref.head.revision": REVISION, "vcs.ref.head.name": "main"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(
            RAILWAY,
            {
                "cloud.provider": "railway",
                "cloud.region": "us-west2",
                "service.name": "shop",
                "service.instance.id": f"r1-{PID}",
                "deployment.environment.name": "production",
                **HEAD,
            },
            id="Railway",
        ),
        pytest.param(
            FLY,
            {
                "cloud.provider": "fly_io",
                "cloud.region": "ams",
                "service.name": "shop",
                "service.version": "deployment-01H9RK9EYO9PGNBYAKGXSHV0PH",
                "service.instance.id": f"3d8d9014b32d89-{PID}",
            },
            id="Fly.io",
        ),
        pytest.param(
            RENDER,
            {
                "cloud.provider": "render",
                "service.name": "shop",
                "service.instance.id": f"srv-c1-hibernate-2-{PID}",
                **HEAD,
            },
            id="Render",
        ),
        pytest.param(
            HEROKU,
            {
                "cloud.provider": "heroku",
                "service.name": "shop",
                "service.version": "v42",
                "service.instance.id": f"1vac4117-{PID}",
                "vcs.ref.head.revision": REVISION,
            },
            id="Heroku",
        ),
        pytest.param(
            VERCEL,
            {
                "cloud.provider": "vercel",
                "cloud.region": "cdg1",
                "deployment.environment.name": "preview",
                **HEAD,
            },
            id="Vercel",
        ),
        pytest.param(
            {**VERCEL, "VERCEL_TARGET_ENV": "staging"},
            {
                "cloud.provider": "vercel",
                "cloud.region": "cdg1",
                "deployment.environment.name": "staging",
                **HEAD,
            },
            id="Vercel, custom environment",
        ),
        pytest.param(
            CLOUD_RUN,
            {
                "cloud.provider": "gcp",
                "cloud.platform": "gcp_cloud_run",
                "faas.name": "shop",
                "faas.version": "shop-00007-abc",
                "service.name": "shop",
                "service.version": "shop-00007-abc",
            },
            id="Cloud Run",
        ),
        pytest.param(
            {**CLOUD_RUN, "FUNCTION_TARGET": "handle"},
            {
                "cloud.provider": "gcp",
                "cloud.platform": "gcp_cloud_functions",
                "faas.name": "shop",
                "faas.version": "shop-00007-abc",
                "service.name": "shop",
                "service.version": "shop-00007-abc",
            },
            id="Cloud Functions",
        ),
        pytest.param(
            CLOUD_RUN_JOB,
            {
                "cloud.provider": "gcp",
                "cloud.platform": "gcp_cloud_run",
                "faas.name": "import",
                "gcp.cloud_run.job.execution": "import-x7",
                "gcp.cloud_run.job.task_index": 3,
                "service.name": "import",
            },
            id="Cloud Run, job",
        ),
        pytest.param(
            CLOUD_RUN_POOL,
            {
                "cloud.provider": "gcp",
                "cloud.platform": "gcp_cloud_run",
                "faas.name": "worker",
                "faas.version": "worker.1",
                "service.name": "worker",
                "service.version": "worker.1",
            },
            id="Cloud Run, worker pool",
        ),
    ],
)
def test_a_platform_is_recognised(tmp_path: Path, environ: dict[str, str], expected: dict[str, AttributeValue]) -> None:
    """Its variables give exactly these attributes of service, cloud and version control."""
    resource = found(tmp_path, environ)
    if "service.instance.id" not in expected:
        resource.pop("service.instance.id")
    if "service.name" not in expected:
        assert str(resource.pop("service.name")).startswith("unknown_service")
    assert resource == expected


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"FLY_APP_NAME": "shop"}, id="settings of flyctl"),
        pytest.param({"HEROKU_API_KEY": "x"}, id="settings of heroku's CLI"),
        pytest.param({"RENDER": "1"}, id="some other RENDER"),
        pytest.param({"VERCEL_ENV": "production"}, id="Vercel's variables without its mark"),
        pytest.param({**CLOUD_RUN, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, id="Knative"),
        pytest.param({}, id="nothing"),
    ],
)
def test_what_is_no_platform_is_not_taken_for_one(tmp_path: Path, environ: dict[str, str]) -> None:
    """Tools on a developer's machine set some of the variables too."""
    resource = found(tmp_path, environ)
    assert set(resource) == {"service.name", "service.instance.id"}
    assert str(resource["service.name"]).startswith("unknown_service")


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry.fly.io/shop:v1", "v1"),
        ("registry.fly.io/shop:v1@sha256:" + "a" * 64, "v1"),
        ("registry.fly.io:5000/shop", None),
        ("shop", None),
        ("", None),
    ],
)
def test_the_version_on_fly_is_the_tag_of_the_image(tmp_path: Path, image: str, version: str | None) -> None:
    """A port or a digest is not taken for a tag."""
    assert found(tmp_path, {**FLY, "FLY_IMAGE_REF": image}).get("service.version") == version


def test_heroku_falls_back_to_the_slugs_commit(tmp_path: Path) -> None:
    """Only the newer Labs feature gives the build's."""
    environ = {name: value for name, value in HEROKU.items() if name != "HEROKU_BUILD_COMMIT"}
    assert found(tmp_path, environ)["vcs.ref.head.revision"] == "f" * 40


def test_an_index_that_is_no_number_does_not_cost_the_platform(tmp_path: Path) -> None:
    """The rest of what a Cloud Run job says stays."""
    resource = found(tmp_path, {**CLOUD_RUN_JOB, "CLOUD_RUN_TASK_INDEX": "²"})
    assert resource["service.name"] == "import"
    assert "gcp.cloud_run.job.task_index" not in resource
