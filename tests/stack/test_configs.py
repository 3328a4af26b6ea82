"""The bundled configuration: the real programs accept it, and it keeps the promises of its README."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otelkit.stack.fetch import fetch
from otelkit.stack.native import EXPAND_ENV_FLAG, PROMETHEUS_FLAGS, NativeStack, Ports, config_dir

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

CONFIG = config_dir()
EXPANDED_FILES = (
    "config/collector.yaml",
    "loki/loki.yaml",
    "tempo/tempo.yaml",
    "compose.yaml",
)
VARIABLE = re.compile(r"\$\{(?:env:)?(?P<name>\w+):-(?P<default>[^}]*)\}")
# Changes the owner of the volumes' folders before any server starts.
ONE_SHOT = "volumes"


def load(name: str) -> Any:
    return yaml.safe_load((CONFIG / name).read_text())


COLLECTOR = load("config/collector.yaml")
COMPOSE = load("compose.yaml")
SERVERS = sorted(set(COMPOSE["services"]) - {ONE_SHOT})


def run(
    command: list[str | Path], *, cwd: Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=environ or {}, capture_output=True, text=True, timeout=30, check=False)


def variables() -> dict[str, set[str]]:
    """The defaults that the files give each variable."""
    found: dict[str, set[str]] = {}
    for name in EXPANDED_FILES:
        for match in VARIABLE.finditer((CONFIG / name).read_text()):
            found.setdefault(match["name"], set()).add(match["default"])
    return found


def other_values() -> dict[str, str]:
    """For each variable a value that is not its default."""
    values = {}
    for name, defaults in variables().items():
        default = min(defaults)
        if default.isdigit():
            values[name] = str(int(default) + 1)
        elif name.endswith("_DIR"):
            values[name] = "/var/lib/elsewhere"
        else:
            values[name] = default.replace("127.0.0.1", "127.0.0.2")
    return values


# --- the programs accept it


@pytest.mark.parametrize("environ", [{}, other_values()], ids=["defaults", "every variable set"])
def test_the_collector_accepts_its_configuration(
    stack_binaries: dict[str, Path], tmp_path: Path, environ: dict[str, str]
) -> None:
    """`otelcol validate` passes with no variable set and with all of them set, and leaves nothing behind."""
    config = CONFIG / "config" / "collector.yaml"
    result = run([stack_binaries["otelcol"], "validate", f"--config={config}"], cwd=tmp_path, environ=environ)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_promtool_accepts_the_prometheus_configuration(promtool: Path, tmp_path: Path) -> None:
    """`promtool check config` passes."""
    result = run([promtool, "check", "config", CONFIG / "prometheus" / "prometheus.yaml"], cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("environ", [{}, other_values()], ids=["defaults", "every variable set"])
@pytest.mark.parametrize(("store", "flag"), [("loki", "-verify-config"), ("tempo", "-config.verify=true")])
def test_loki_and_tempo_accept_their_configuration(
    stack_binaries: dict[str, Path], tmp_path: Path, environ: dict[str, str], store: str, flag: str
) -> None:
    """Their own check passes with no variable set and with all of them set."""
    config = CONFIG / store / f"{store}.yaml"
    result = run(
        [stack_binaries[store], flag, EXPAND_ENV_FLAG, f"-config.file={config}"], cwd=tmp_path, environ=environ
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["otelcol", "prometheus", "loki", "tempo"])
def test_every_server_gets_ready_with_its_configuration(native_stack: NativeStack, name: str) -> None:
    """Each of the four answers its readiness probe with 200."""
    assert native_stack.servers[name].ready()


@pytest.mark.parametrize("name", ["otelcol", "prometheus", "loki", "tempo"])
def test_every_server_writes_in_the_stack_s_folder_only(native_stack: NativeStack, name: str) -> None:
    """No file that is open for writing is elsewhere: two stacks on a machine share nothing."""
    written = _open_for_writing(native_stack.servers[name].pid)
    assert written, "at least the log is open"
    assert [path for path in written if not path.is_relative_to(native_stack.data_dir)] == []


@pytest.mark.parametrize(("store", "path"), [("loki", "/config"), ("tempo", "/status/config")])
def test_no_folder_of_a_store_is_left_to_its_default(native_stack: NativeStack, store: str, path: str) -> None:
    """Every absolute path in the configuration that the store runs with is in the stack's folder."""
    status, body = fetch(getattr(native_stack, store) + path)
    assert status == 200
    # Tempo puts a line before the document.
    configuration = yaml.safe_load(body.decode().rpartition("---\n")[2])
    folders = {key: value for key, value in _leaves(configuration) if str(value).startswith("/")}
    assert len(folders) >= 5
    # Loki builds blooms only if it is told to.
    folders.pop(".bloom_build.planner.queue.tasks_disk_directory", None)
    outside = {key: each for key, each in folders.items() if not Path(each).is_relative_to(native_stack.data_dir)}
    assert outside == {}


def _open_for_writing(pid: int | None) -> list[Path]:
    paths = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = entry.readlink()
            flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
        except FileNotFoundError:
            continue
        opened = re.search(r"^flags:\s+(\d+)", flags, re.MULTILINE)
        if opened and int(opened[1], 8) & 0o3 and target.is_absolute() and not target.is_relative_to("/dev"):
            paths.append(target)
    return paths


def _leaves(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{at}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, at)
    else:
        yield at, node


# --- the collector loses nothing that it has acknowledged


def test_every_exporter_has_a_disk_queue_and_retries_for_ever() -> None:
    """Each queue is in the synced file storage, and no retry gives up."""
    storage = COLLECTOR["extensions"]["file_storage"]
    assert storage["fsync"] is True
    assert storage["create_directory"] is True
    assert "file_storage" in COLLECTOR["service"]["extensions"]
    for name, exporter in COLLECTOR["exporters"].items():
        assert exporter["sending_queue"]["storage"] == "file_storage", name
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0, name


def test_nothing_holds_records_in_memory_before_the_disk_queue() -> None:
    """In every pipeline the memory limiter comes first and no batch processor comes at all."""
    for name, pipeline in COLLECTOR["service"]["pipelines"].items():
        processors = pipeline["processors"]
        assert processors[0] == "memory_limiter", name
        assert not [each for each in processors if each.split("/")[0] in ("batch", "groupbytrace")], name


def test_the_builder_manifest_lists_the_components_in_use_and_no_others(stack_binaries: dict[str, Path]) -> None:
    """builder.yaml has the module, in the binary's version, of each component that collector.yaml configures."""
    available = yaml.safe_load(run([stack_binaries["otelcol"], "components"], cwd=CONFIG).stdout)
    manifest = load("builder.yaml")
    for section in ("extensions", "receivers", "processors", "exporters"):
        modules = {each["name"]: each["module"] for each in available[section]}
        used = {modules[name.split("/")[0]] for name in COLLECTOR[section]}
        assert {each["gomod"] for each in manifest[section]} == used, section


def test_manifest_and_image_are_of_the_same_collector_version() -> None:
    """What builder.yaml builds and what compose.yaml runs carry one version."""
    assert COMPOSE["services"]["otelcol"]["image"].endswith(f":{load('builder.yaml')['dist']['version']}")


# --- compose


def test_every_image_is_pinned_by_its_full_version() -> None:
    """No tag floats."""
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_every_published_port_is_on_loopback_only() -> None:
    """What compose publishes, no other machine reaches."""
    for name in SERVERS:
        for port in COMPOSE["services"][name]["ports"]:
            assert re.fullmatch(r"127\.0\.0\.1:\$\{STACK_\w+:-\d+\}:\d+", port), (name, port)
    assert "ports" not in COMPOSE["services"][ONE_SHOT]


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_is_confined(name: str) -> None:
    """Not root, no capabilities, a read-only file system, restarted after a crash, logs of bounded size."""
    service = COMPOSE["services"][name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]


def test_root_is_used_once_without_network_and_only_to_change_owners() -> None:
    """The volumes' folders get their owner before any server starts."""
    one_shot = COMPOSE["services"][ONE_SHOT]
    assert one_shot["entrypoint"] == ["/bin/chown", COMPOSE["services"]["otelcol"]["user"]]
    assert one_shot["cap_add"] == ["CHOWN"]
    assert one_shot["network_mode"] == "none"
    assert one_shot["restart"] == "no"
    for name in SERVERS:
        condition = COMPOSE["services"][name]["depends_on"][ONE_SHOT]["condition"]
        assert condition == "service_completed_successfully", name


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_keeps_its_data_in_a_named_volume_with_the_right_owner(name: str) -> None:
    """One volume a server, declared, given to the server's user, mounted where the server writes."""
    service = COMPOSE["services"][name]
    named = [mount for mount in service["volumes"] if not mount.startswith("./")]
    volume, target = named[0].split(":")
    assert len(named) == 1
    assert volume in COMPOSE["volumes"]
    one_shot = COMPOSE["services"][ONE_SHOT]
    owned = dict(mount.split(":") for mount in one_shot["volumes"])
    assert owned[volume] in one_shot["command"]
    written_to = [*service["command"], *map(str, service.get("environment", {}).values())]
    assert any(value.split("=")[-1] == target for value in written_to)


@pytest.mark.parametrize("name", SERVERS)
def test_compose_runs_the_bundled_files(name: str) -> None:
    """Each server reads its one file from this folder, read-only, at the place where its flag says."""
    service = COMPOSE["services"][name]
    source, target, mode = next(mount for mount in service["volumes"] if mount.startswith("./")).split(":")
    assert (CONFIG / source).is_file()
    assert mode == "ro"
    assert any(flag.endswith(f"={target}") for flag in service["command"])


def test_compose_and_native_start_the_stores_with_the_same_flags() -> None:
    """Prometheus' features and the expansion of variables are switched on in both."""
    assert set(PROMETHEUS_FLAGS) <= set(COMPOSE["services"]["prometheus"]["command"])
    for name in ("loki", "tempo"):
        assert EXPAND_ENV_FLAG in COMPOSE["services"][name]["command"]


@pytest.mark.parametrize("name", ["prometheus", "loki", "tempo"])
def test_the_health_checks_tell_a_ready_server_from_an_absent_one(
    native_stack: NativeStack, stack_binaries: dict[str, Path], promtool: Path, name: str, tmp_path: Path
) -> None:
    """compose's own command lines, run with the real programs, succeed against the stack and fail without one."""
    kind, program, *arguments = COMPOSE["services"][name]["healthcheck"]["test"]
    assert kind == "CMD", "these images have no shell"
    binaries: dict[str, Path] = {**stack_binaries, "promtool": promtool}
    port = {
        "prometheus": native_stack.ports.prometheus_http,
        "loki": native_stack.ports.loki_http,
        "tempo": native_stack.ports.tempo_http,
    }[name]
    published = COMPOSE["services"][name]["ports"][0].rsplit(":", 1)[1]
    assert f":{published}" in arguments[-1]
    for actual, expected in ((port, 0), (Ports.free().prometheus_http, 1)):
        last = arguments[-1].replace(f":{published}", f":{actual}")
        result = run([binaries[Path(program).name], *arguments[:-1], last], cwd=tmp_path)
        assert result.returncode == expected, result.stdout + result.stderr


# --- one set of variables


def test_every_variable_has_one_default_and_the_readme_names_it() -> None:
    """The README's table and the files agree on variables and defaults, none missing on either side."""
    rows = re.findall(r"^\| `(STACK_\w+)` \| `([^`]+)` \|", (CONFIG / "README.md").read_text(), re.MULTILINE)
    assert {name: {default} for name, default in rows} == variables()


def test_the_ports_of_a_native_stack_default_to_those_of_the_files() -> None:
    """`Ports()` and the files have the same defaults under the same names."""
    in_files = {name: default for name, (default,) in variables().items() if name.endswith("_PORT")}
    assert Ports().environment() == in_files
    assert len(set(dataclasses.astuple(Ports()))) == len(in_files)
