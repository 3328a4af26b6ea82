"""Runs the bundled stack from native binaries on loopback: collector, Prometheus, Loki, Tempo."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from otelkit.stack.server import Server, StackError
from otelkit.stack.watchdog import Watchdog

HOST: Final = "127.0.0.1"
# A server that has not ended this long after SIGTERM gets SIGKILL. Tempo 3.0 writes its traces to disk at once, and
# then, if it was queried in the last minute, never ends (grafana/tempo#7967).
STOP_TIMEOUT_S: Final[Mapping[str, float]] = {"otelcol": 10.0, "prometheus": 10.0, "loki": 10.0, "tempo": 3.0}
POLL_INTERVAL_S: Final = 0.05
# Between choosing a free port and a server's listening on it, another process may take it.
FREE_PORT_ATTEMPTS: Final = 3

# Programs that do a server's work, by the server's name; the first one found is taken.
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "otelcol": ("otelcol", "otelcol-contrib"),
    "prometheus": ("prometheus",),
    "loki": ("loki",),
    "tempo": ("tempo",),
}

PROMETHEUS_FLAGS: Final = ("--web.enable-otlp-receiver", "--enable-feature=exemplar-storage")
EXPAND_ENV_FLAG: Final = "-config.expand-env=true"

# With the application's OpenTelemetry settings the servers would send telemetry of their own to its endpoint.
_PREFIXES_NOT_INHERITED: Final = ("OTEL_", "OTELKIT_", "JAEGER_")


def find_binaries(environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Return the program for each of `otelcol`, `prometheus`, `loki` and `tempo` that is found.

    They are looked for in the folder `OTELKIT_STACK_BIN` if that is set, and only there; else on PATH.
    `otelcol-contrib` does for `otelcol`.
    """
    environ = os.environ if environ is None else environ
    path = environ.get("OTELKIT_STACK_BIN") or environ.get("PATH", "")
    found: dict[str, Path] = {}
    for name, programs in PROGRAMS.items():
        for program in programs:
            where = shutil.which(program, path=path)
            if where is not None:
                found[name] = Path(where).absolute()
                break
    return found


def missing_binaries(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the servers that `find_binaries` does not find."""
    found = find_binaries(environ)
    return [name for name in PROGRAMS if name not in found]


def config_dir() -> Path:
    """Return the folder of the bundled configuration: the wheel's own copy, else `collector/` of the checkout.

    Raises:
        StackError: there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "_collector", package.parent / "collector"):
        if (candidate / "config" / "collector.yaml").is_file():
            return candidate
    raise StackError(f"no bundled stack configuration, neither in {package} nor beside it")


@dataclass(frozen=True)
class Ports:
    """The ports that the stack listens on; the defaults are those of the bundled configuration."""

    otlp_grpc: int = 4317
    otlp_http: int = 4318
    collector_health: int = 13133
    collector_metrics: int = 8888
    prometheus_http: int = 9090
    loki_http: int = 3100
    loki_grpc: int = 9096
    tempo_http: int = 3200
    tempo_grpc: int = 9097
    tempo_otlp: int = 4327

    @classmethod
    def free(cls) -> Ports:
        """Return ports that were free on loopback a moment ago, all different."""
        names = [field.name for field in dataclasses.fields(cls)]
        sockets = [socket.socket() for _ in names]
        try:
            for each in sockets:
                each.bind((HOST, 0))
            return cls(**{name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)})
        finally:
            for each in sockets:
                each.close()

    def environment(self) -> dict[str, str]:
        """Return the variables that the bundled configuration reads them from, `STACK_OTLP_GRPC_PORT` and so on."""
        return {f"STACK_{name.upper()}_PORT": str(port) for name, port in dataclasses.asdict(self).items()}

    def check_free(self) -> None:
        """Do nothing if all ports are free on loopback.

        Raises:
            StackError: one is taken; the message names it.
        """
        for name, port in dataclasses.asdict(self).items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise StackError(f"{_server_of(name)} needs port {port} ({name}): {error.strerror}") from error


class NativeStack:
    """The four servers with the bundled configuration, data and logs in one folder; a context manager.

    On loopback only. Each server appends to a log file of its own in `data_dir`, which may be used again: what was
    stored or queued there is still there. Nothing is printed. If this process dies, even by SIGKILL, the servers are
    ended by a watchdog (Linux). The files of `collector_configs` are merged over the collector's bundled one, in order.

    Attributes:
        ports: what the servers listen on; unless they were given, a start may choose others.
        servers: the server of each name, for tests that stop, kill and start single ones.
        timings: seconds from the start to readiness, by server.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        ports: Ports | None = None,
        environ: Mapping[str, str] | None = None,
        collector_configs: Sequence[Path] = (),
        ready_timeout_s: float = 60.0,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.ports = ports or Ports.free()
        self.servers: dict[str, Server] = {}
        self.timings: dict[str, float] = {}
        self._ports_are_given = ports is not None
        self._environ = dict(os.environ if environ is None else environ)
        self._collector_configs = [path.absolute() for path in collector_configs]
        self._ready_timeout_s = ready_timeout_s
        self._watchdog: Watchdog | None = None

    @property
    def otlp_http(self) -> str:
        """Where OTLP/HTTP goes; a value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{HOST}:{self.ports.otlp_http}"

    @property
    def otlp_grpc(self) -> str:
        """Where OTLP/gRPC goes; a value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{HOST}:{self.ports.otlp_grpc}"

    @property
    def prometheus(self) -> str:
        return f"http://{HOST}:{self.ports.prometheus_http}"

    @property
    def loki(self) -> str:
        return f"http://{HOST}:{self.ports.loki_http}"

    @property
    def tempo(self) -> str:
        return f"http://{HOST}:{self.ports.tempo_http}"

    def start(self) -> None:
        """Start the servers side by side and return when all are ready; after an error none is left running.

        Raises:
            StackError: a program is missing, a given port is taken, a server ended (exit code and the end of its
                log are in the message), or one was not ready in time.
        """
        if self.servers:
            raise StackError("this stack was started already")
        missing = missing_binaries(self._environ)
        if missing:
            where = self._environ.get("OTELKIT_STACK_BIN")
            raise StackError(f"not found {f'in {where}' if where else 'on PATH'}: {', '.join(missing)}")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, FREE_PORT_ATTEMPTS + 1):
            if self._ports_are_given:
                self.ports.check_free()
            try:
                self._start_once()
                return
            except BaseException as error:
                lost_a_port = "address already in use" in str(error)
                self.stop()
                if not lost_a_port or self._ports_are_given or attempt == FREE_PORT_ATTEMPTS:
                    raise
            self.ports = Ports.free()

    def stop(self) -> None:
        """End the servers: first the collector, which then still delivers to the stores, then the stores together.

        Each gets SIGTERM, and SIGKILL if it has not ended after its time of `STOP_TIMEOUT_S`. No-op if none runs.
        """
        for names in (("otelcol",), ("prometheus", "loki", "tempo")):
            servers = [self.servers[name] for name in names if name in self.servers]
            for server in servers:
                server.terminate()
            asked = time.monotonic()
            for server in servers:
                server.wait(timeout_s=asked + STOP_TIMEOUT_S[server.name] - time.monotonic())
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        self.servers = {}

    def check(self) -> None:
        """Do nothing as long as all servers run.

        Raises:
            StackError: one has ended.
        """
        for server in self.servers.values():
            server.check()

    def start_server(self, name: str) -> None:
        """Start one server again that was stopped or killed, with the data that it had, and wait until it is ready.

        Raises:
            StackError: it runs, it ended again, or it was not ready in time.
        """
        self._launch([self.servers[name]])
        self._await_ready([self.servers[name]])

    def __enter__(self) -> NativeStack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start_once(self) -> None:
        self.servers = self._make_servers()
        if Watchdog.supported():
            self._watchdog = Watchdog()
        servers = list(self.servers.values())
        self._launch(servers)
        self._await_ready(servers)
        # One that lost its port to somebody else's server would have got that one's answer to the readiness probe.
        self.check()

    def _make_servers(self) -> dict[str, Server]:
        config, ports, data = config_dir(), self.ports, self.data_dir
        binaries = find_binaries(self._environ)
        environ = {name: value for name, value in self._environ.items() if not name.startswith(_PREFIXES_NOT_INHERITED)}
        environ |= ports.environment()
        environ |= {
            "STACK_LISTEN_HOST": HOST,
            "STACK_COLLECTOR_DATA_DIR": str(data / "otelcol"),
            "STACK_LOKI_DATA_DIR": str(data / "loki"),
            "STACK_TEMPO_DATA_DIR": str(data / "tempo"),
            "STACK_PROMETHEUS_URL": self.prometheus,
            "STACK_LOKI_URL": self.loki,
            "STACK_TEMPO_OTLP_ENDPOINT": f"{HOST}:{ports.tempo_otlp}",
        }
        arguments = {
            "otelcol": [
                f"--config={path}" for path in (config / "config" / "collector.yaml", *self._collector_configs)
            ],
            "prometheus": [
                f"--config.file={config / 'prometheus' / 'prometheus.yaml'}",
                f"--storage.tsdb.path={data / 'prometheus'}",
                f"--web.listen-address={HOST}:{ports.prometheus_http}",
                *PROMETHEUS_FLAGS,
            ],
            "loki": [EXPAND_ENV_FLAG, f"-config.file={config / 'loki' / 'loki.yaml'}"],
            "tempo": [EXPAND_ENV_FLAG, f"-config.file={config / 'tempo' / 'tempo.yaml'}"],
        }
        ready_urls = {
            "otelcol": f"http://{HOST}:{ports.collector_health}/",
            "prometheus": f"{self.prometheus}/-/ready",
            "loki": f"{self.loki}/ready",
            "tempo": f"{self.tempo}/ready",
        }
        return {
            name: Server(
                name,
                [str(binaries[name]), *arguments[name]],
                environ=environ,
                ready_url=ready_urls[name],
                log_path=data / f"{name}.log",
            )
            for name in PROGRAMS
        }

    def _launch(self, servers: list[Server]) -> None:
        for server in servers:
            server.start()
            if self._watchdog is not None and server.pid is not None:
                self._watchdog.guard(server.pid)

    def _await_ready(self, servers: list[Server]) -> None:
        began = time.monotonic()
        deadline = began + self._ready_timeout_s
        waiting = list(servers)
        while True:
            for server in list(waiting):
                if server.ready():
                    self.timings[server.name] = time.monotonic() - began
                    waiting.remove(server)
            if not waiting:
                return
            if time.monotonic() > deadline:
                first = waiting[0]
                raise StackError(
                    f"not ready within {self._ready_timeout_s:g} s: {', '.join(each.name for each in waiting)}; "
                    f"the end of {first.log_path}:\n{first.log_tail()}"
                )
            time.sleep(POLL_INTERVAL_S)


def _server_of(port_name: str) -> str:
    prefix = port_name.split("_")[0]
    return "otelcol" if prefix in ("otlp", "collector") else prefix
