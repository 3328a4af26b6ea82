"""What the resource says of a service, where it takes it from, and which source wins."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import AttributeValue

from otelkit.resource import Sources, detect, new_instance_id
from tests.support.examples import examples

REVISION = "4f1c6f0b7b9c2c2f8f6dd2c4b1a3e5d7c9b8a706"
RAILWAY = {
    "RAILWAY_PROJECT_ID": "f2a1",
    "RAILWAY_SERVICE_NAME": "from-railway",
    "RAILWAY_REPLICA_ID": "replica-7",
    "RAILWAY_ENVIRONMENT_NAME": "production",
    "RAILWAY_GIT_COMMIT_SHA": REVISION,
    "RAILWAY_GIT_BRANCH": "main",
}

Given = Mapping[str, str | int | float | bool | Sequence[str]]


def found(
    sources: Sources,
    *,
    service_name: str | None = None,
    service_version: str | None = None,
    revision: str | None = None,
    environment: str | None = None,
    attributes: Given | None = None,
    environ: Mapping[str, str] | None = None,
    application_distribution: str | None = None,
) -> dict[str, AttributeValue]:
    """What is detected of an otherwise empty machine."""
    return detect(
        service_name=service_name,
        service_version=service_version,
        revision=revision,
        environment=environment,
        attributes=attributes or {},
        environ=environ or {},
        application_distribution=application_distribution,
        sources=sources,
    )


@pytest.fixture
def empty(tmp_path: Path) -> Sources:
    """A machine without any of the files that are read."""
    return Sources(root=tmp_path, directory=tmp_path)


def installed(site: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, *, locally: bool) -> None:
    """Installs the metadata of a distribution, as pip does from a directory or from an index."""
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if locally:
        (metadata / "direct_url.json").write_text('{"url": "file:///app", "dir_info": {"editable": true}}')
    monkeypatch.syspath_prepend(str(site))


def test_an_argument_wins_over_an_attribute_and_that_over_the_platform(empty: Sources) -> None:
    """Each argument, the attribute of the same meaning, and the platform's value are tried in this order."""
    attributes = {
        "service.name": "from-attributes",
        "service.version": "2",
        "vcs.ref.head.revision": "abcdef1",
        "deployment.environment.name": "staging",
    }
    from_arguments = found(
        empty,
        service_name="from-argument",
        service_version="3",
        revision="abcdef2",
        environment="test",
        attributes=attributes,
        environ=RAILWAY,
    )
    from_attributes = found(empty, attributes=attributes, environ=RAILWAY)
    from_platform = found(empty, environ=RAILWAY)
    assert [from_arguments[name] for name in attributes] == ["from-argument", "3", "abcdef2", "test"]
    assert [from_attributes[name] for name in attributes] == list(attributes.values())
    assert from_platform["service.name"] == "from-railway"
    assert from_platform["vcs.ref.head.revision"] == REVISION
    assert from_platform["deployment.environment.name"] == "production"


def test_an_attribute_wins_over_every_detector(empty: Sources) -> None:
    """What OTEL_RESOURCE_ATTRIBUTES says of host and process stays as it was said."""
    attributes = {"host.name": "chosen", "process.owner": "nobody", "host.arch": "tpu", "extra": ("a", "b")}
    resource = found(empty, attributes=attributes)
    assert {name: resource[name] for name in attributes} == attributes


def test_an_empty_text_counts_as_not_given(empty: Sources) -> None:
    """An empty variable means unset, as everywhere in OpenTelemetry's specification."""
    resource = found(empty, service_name="", environment="", attributes={"service.name": ""}, environ=RAILWAY)
    assert resource["service.name"] == "from-railway"
    assert resource["deployment.environment.name"] == "production"


def test_a_service_without_a_name_is_called_after_its_executable(empty: Sources) -> None:
    """The name is what the specification prescribes, with the value of process.executable.name."""
    resource = found(empty)
    assert resource["service.name"] == f"unknown_service:{resource['process.executable.name']!s}"


def test_the_old_name_of_the_environment_is_understood(empty: Sources) -> None:
    """`deployment.environment` gives `deployment.environment.name` unless that is given too."""
    old = found(empty, attributes={"deployment.environment": "qa"})
    both = found(empty, attributes={"deployment.environment": "qa", "deployment.environment.name": "live"})
    argument = found(empty, attributes={"deployment.environment": "qa"}, environment="dev")
    assert old["deployment.environment.name"] == "qa"
    assert both["deployment.environment.name"] == "live"
    assert argument["deployment.environment.name"] == "dev"


def test_a_revision_that_was_given_keeps_no_branch_that_was_not(empty: Sources) -> None:
    """A branch belongs to the revision that it was detected with."""
    assert found(empty, environ=RAILWAY)["vcs.ref.head.name"] == "main"
    assert "vcs.ref.head.name" not in found(empty, environ=RAILWAY, revision="abcdef1")


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"GITHUB_SHA": REVISION, "GITHUB_REF_NAME": "main"}, "main"),
        ({"CI_COMMIT_SHA": REVISION, "CI_COMMIT_REF_NAME": "v1"}, "v1"),
        ({"GIT_COMMIT": REVISION, "GIT_BRANCH": "origin/main"}, "origin/main"),
        ({"GIT_COMMIT": REVISION}, None),
        ({"GIT_COMMIT": "unknown", "CI_COMMIT_SHA": REVISION}, None),
    ],
)
def test_a_pipeline_names_the_revision(empty: Sources, environ: dict[str, str], name: str | None) -> None:
    """The documented variables of CI systems count, and only when they hold the name of a commit."""
    resource = found(empty, environ=environ)
    assert resource["vcs.ref.head.revision"] == REVISION
    assert resource.get("vcs.ref.head.name") == name


def test_a_variable_that_is_no_commit_gives_no_revision(empty: Sources) -> None:
    """Images are often built with a placeholder in place of the commit."""
    assert "vcs.ref.head.revision" not in found(empty, environ={"GIT_COMMIT": "unknown"})


def test_the_version_is_that_of_the_applications_distribution(
    empty: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution that is named counts, however it was installed and its name is spelt."""
    installed(tmp_path / "site", monkeypatch, "acme-shop", "4.5.6", locally=False)
    resource = found(empty, service_name="shop", application_distribution="Acme.Shop")
    assert resource["service.version"] == "4.5.6"


def test_a_service_named_like_its_own_distribution_has_its_version(
    empty: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing needs to be said for an application that was installed from its directory."""
    installed(tmp_path / "site", monkeypatch, "acme-shop", "4.5.6", locally=True)
    assert found(empty, service_name="acme-shop")["service.version"] == "4.5.6"


def test_a_service_named_like_a_library_does_not_get_the_librarys_version(
    empty: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is called "celery" is not at version 5."""
    installed(tmp_path / "site", monkeypatch, "acme-queue", "5.4.0", locally=False)
    assert "service.version" not in found(empty, service_name="acme-queue")


def test_a_service_without_a_distribution_has_the_platforms_version_or_none(empty: Sources) -> None:
    """A revision is not a version."""
    heroku = {"DYNO": "web.1", "HEROKU_RELEASE_VERSION": "v42"}
    assert found(empty, service_name="a b/c", environ=heroku)["service.version"] == "v42"
    assert "service.version" not in found(empty, service_name="a b/c", environ=RAILWAY)


def test_every_process_gets_an_instance_id_of_its_own(empty: Sources) -> None:
    """Random ids are UUIDs of version 4 and differ; an explicit one is kept, with the pid in children."""
    ids = {str(found(empty)["service.instance.id"]) for _ in range(3)} | {new_instance_id(None, 1)}
    assert len(ids) == 4
    assert {uuid.UUID(text).version for text in ids} == {4}
    assert found(empty, attributes={"service.instance.id": "mine"})["service.instance.id"] == "mine"
    assert new_instance_id("mine", 12) == "mine-12"


def test_the_processes_of_one_replica_have_different_instance_ids(empty: Sources) -> None:
    """A platform's id is that of a whole container, in which several workers may run."""
    assert found(empty, environ=RAILWAY)["service.instance.id"] == f"replica-7-{os.getpid()}"


def test_the_process_is_described_without_its_arguments(tmp_path: Path) -> None:
    """Of the command line, which may hold secrets, only the first word is told."""
    code = (
        "import os\n"
        "from otelkit.resource import detect\n"
        "found = detect(service_name=None, service_version=None, revision=None, environment=None,"
        " attributes={}, environ=os.environ)\n"
        "print(ascii(found))\n"
        "print(found['process.pid'] == os.getpid(), found['process.command'])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--password", "hunter2"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    attributes, facts = run.stdout.splitlines()
    assert facts == f"True {sys.executable}"
    assert "hunter2" not in attributes


def test_process_host_and_sdk_are_described(tmp_path: Path) -> None:
    """The values are those of the conventions, read from the files of the given root."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(f"root:x:9999:0::/:\nshopper:x:{os.geteuid()}:0::/:/bin/sh\n")
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/exe").symlink_to("/opt/python/bin/python3.12")
    resource = found(Sources(root=tmp_path, directory=tmp_path))
    assert resource["process.owner"] == "shopper"
    assert resource["process.executable.path"] == "/opt/python/bin/python3.12"
    assert resource["process.executable.name"] == "python3.12"
    assert resource["process.runtime.name"] == sys.implementation.name
    assert str(resource["process.runtime.version"]).startswith(f"3.{sys.version_info.minor}.")
    assert resource["host.name"] == os.uname().nodename
    assert resource["host.id"] == "0123456789abcdef0123456789abcdef"
    assert resource["os.type"] == os.uname().sysname.lower()
    assert resource["os.version"] == os.uname().release
    assert resource["telemetry.sdk.name"] == "opentelemetry"
    assert resource["telemetry.sdk.language"] == "python"
    assert resource["telemetry.distro.name"] == "otelkit"
    assert resource["telemetry.distro.version"]


@pytest.mark.parametrize("sign", [".dockerenv", "run/.containerenv", "/kubernetes", "/platform"])
def test_a_container_has_no_host_id(tmp_path: Path, sign: str) -> None:
    """The machine-id in a container is that of its image, the same on every host."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    environ = {"/kubernetes": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "/platform": RAILWAY}.get(sign, {})
    if not environ:
        (tmp_path / sign).touch()
    resource = found(Sources(root=tmp_path, directory=tmp_path), environ=environ)
    assert "host.id" not in resource


@pytest.mark.parametrize("machine_id", ["uninitialized", "", "0123", "g" * 32])
def test_a_machine_id_that_is_none_is_left_out(tmp_path: Path, machine_id: str) -> None:
    """systemd writes a word into the file until the first boot."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text(machine_id)
    assert "host.id" not in found(Sources(root=tmp_path, directory=tmp_path))


def test_stray_bytes_of_the_environment_do_not_reach_the_encoder(empty: Sources) -> None:
    """Python keeps what is no UTF-8 as lone surrogates, which protobuf refuses."""
    environ = {**RAILWAY, "RAILWAY_SERVICE_NAME": os.fsdecode(b"caf\xe9")}
    assert found(empty, environ=environ)["service.name"] == "caf?"
    assert found(empty, attributes={"a": (os.fsdecode(b"\xff"), "b")})["a"] == ("?", "b")


def test_the_sdk_takes_every_attribute() -> None:
    """On this very machine, nothing is dropped or changed by the SDK's Resource."""
    resource = detect(
        service_name="shop",
        service_version=None,
        revision=None,
        environment=None,
        attributes={"list": ["a", "b"]},
        environ=os.environ,
    )
    assert dict(Resource(resource).attributes) == resource


def test_detection_neither_runs_programs_nor_opens_sockets(tmp_path: Path) -> None:
    """Python's own audit events show neither a socket nor a process while the resource is detected."""
    code = (
        "import importlib.metadata, os, sys\n"
        "from otelkit.resource import detect\n"
        "seen = []\n"
        "forbidden = ('socket.', 'subprocess.', 'os.system', 'os.exec', 'os.fork', 'os.posix_spawn')\n"
        "sys.addaudithook(lambda event, args: event.startswith(forbidden) and seen.append((event, args)))\n"
        "detect(service_name='shop', service_version=None, revision=None, environment=None,"
        " attributes={}, environ=os.environ)\n"
        "print(seen)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_a_failing_detector_leaves_the_others(tmp_path: Path) -> None:
    """A process whose directory was removed has no repository, and the rest of its resource."""
    code = (
        "import os, tempfile\n"
        "from otelkit.resource import detect\n"
        "os.chdir(tempfile.mkdtemp())\n"
        "os.rmdir(os.getcwd())\n"
        "found = detect(service_name='shop', service_version=None, revision=None, environment=None,"
        " attributes={}, environ={})\n"
        "print(found['service.name'], 'process.pid' in found, 'host.name' in found)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "shop True True"


VARIABLES = [
    *(*RAILWAY, "FLY_MACHINE_ID", "FLY_IMAGE_REF", "RENDER", "RENDER_INSTANCE_ID", "DYNO", "HEROKU_APP_NAME"),
    *("K_SERVICE", "K_CONFIGURATION", "CLOUD_RUN_JOB", "CLOUD_RUN_TASK_INDEX", "VERCEL", "VERCEL_ENV"),
    *("KUBERNETES_SERVICE_HOST", "HOSTNAME", "POD_NAME", "GIT_COMMIT", "GIT_BRANCH"),
]
TEXTS = st.text(st.characters(codec=None), max_size=40)


@settings(max_examples=examples(100), deadline=None)
@given(
    environ=st.dictionaries(
        st.sampled_from(VARIABLES),
        TEXTS | st.sampled_from(["1", "true", "²", "٣", "9" * 5000, REVISION]),
    ),
    attributes=st.dictionaries(TEXTS, TEXTS | st.integers() | st.booleans() | st.lists(TEXTS, max_size=3)),
    name=TEXTS,
)
def test_any_environment_gives_attributes_that_can_be_sent(
    environ: dict[str, str], attributes: Given, name: str
) -> None:
    """Whatever the variables hold, detection does not raise and every value is one of OpenTelemetry's."""
    nowhere = Path("/nonexistent")
    resource = found(
        Sources(root=nowhere, directory=nowhere), environ=environ, attributes=attributes, service_name=name
    )
    assert_sendable({key: value for key, value in resource.items() if key not in attributes})
    assert resource["service.name"]


def assert_sendable(resource: Mapping[str, AttributeValue]) -> None:
    """Every key is a dotted name and every value a primitive or a sequence of texts, all of it UTF-8."""
    for key, value in resource.items():
        assert key
        for item in value if isinstance(value, tuple) else (value,):
            assert isinstance(item, str | int | float | bool), (key, value)
            if isinstance(item, str):
                assert item.encode().decode() == item
