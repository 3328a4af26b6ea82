"""What must not get in: other sites' pages, names that were made to resolve to here, the network without a token."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.server import BIN, clean_environment
from tests.viewer.backend import PROTOBUF, Backend, running_backend, span, spans_request

# The backend that most of these tests share is started by one worker.
pytestmark = pytest.mark.xdist_group("viewer-security")

BODY = spans_request(span("one")).SerializeToString()


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1", "a b"])
def test_a_name_that_is_not_this_servers_is_refused(shared: Backend, host: str) -> None:
    """A page whose name was made to resolve to 127.0.0.1 is of the same origin, but says its name in Host."""
    assert shared.ask("/api/v1/info", headers={"Host": host}).status in (400, 421)


@pytest.mark.parametrize("host", ["localhost:4318", "127.0.0.1", "[::1]:4318", "LOCALHOST"])
def test_its_own_names_are_taken(shared: Backend, host: str) -> None:
    """Loopback's, with any port: a tunnel has another."""
    assert shared.ask("/api/v1/info", headers={"Host": host}).status == 200


def test_another_sites_page_may_neither_read_nor_write(backend: Backend) -> None:
    """Whatever it asks for carries its Origin; the server's own page is let in."""
    for path, body in (("/api/v1/traces", None), ("/api/v1/sql", b'{"query": "SELECT 1"}'), ("/v1/traces", BODY)):
        method = "POST" if body else "GET"
        headers = {"Origin": "http://evil.example", "Content-Type": PROTOBUF}
        answer = backend.ask(path, body=body, headers=headers, method=method)
        assert answer.status == 403, path
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert backend.ask("/api/v1/traces", headers={"Origin": backend.url}).status == 200
    assert backend.get("info")["rows"]["spans"] == 0


def test_a_named_origin_may_send_telemetry_and_no_more(tmp_path: Path) -> None:
    """With --cors-origin: the preflight is answered, the request taken; the API stays closed to it."""
    site = "http://localhost:3000"
    with running_backend(tmp_path, "--cors-origin", site) as backend:
        preflight = backend.ask("/v1/traces", headers={"Origin": site}, method="OPTIONS")
        assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, site)
        assert "content-type" in preflight.headers["Access-Control-Allow-Headers"]
        headers = {"Origin": site, "Content-Type": PROTOBUF}
        answer = backend.ask("/v1/traces", body=BODY, headers=headers, method="POST")
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, site)
        assert backend.ask("/api/v1/traces", headers={"Origin": site}).status == 403
        assert backend.ask("/v1/traces", headers={"Origin": "http://other"}, method="OPTIONS").status == 403


def test_every_answer_has_the_security_headers(shared: Backend) -> None:
    """A page, an error, a refusal."""
    for path, headers in (("/", {}), ("/api/v1/none", {}), ("/api/v1/info", {"Host": "evil.example"})):
        answer = shared.ask(path, headers=headers)
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_beyond_loopback_it_does_not_start_without_a_token(tmp_path: Path) -> None:
    """And says which option it wants."""
    finished = subprocess.run(
        [str(BIN / "otelkit"), "ui", "--host", "0.0.0.0", "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 1
    assert "--token" in finished.stderr


def test_beyond_loopback_everything_wants_the_token(tmp_path: Path) -> None:
    """In a header, or in the cookie that the printed link sets; SQL is not there at all."""
    with running_backend(tmp_path, "--host", "0.0.0.0", "--token", "s3cret") as backend:
        good, bad = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer s3creT"}
        for path in ("/", "/api/v1/info", "/api/v1/live", "/static/app.js"):
            assert backend.ask(path).status == 401, path
            assert backend.ask(path, headers=bad).status == 401, path
        assert backend.ask("/v1/traces", body=BODY, headers={"Content-Type": PROTOBUF}, method="POST").status == 401
        assert backend.ask("/api/v1/info", headers=good).status == 200
        assert backend.ask("/api/v1/info", headers={"Cookie": "otelkit_token=s3cret"}).status == 200
        assert backend.ask("/api/v1/info?token=s3cret").status == 401
        sql = backend.ask("/api/v1/sql", body=b'{"query": "SELECT 1"}', headers=good, method="POST")
        assert sql.status == 403
        assert "/?token=s3cret" in backend.log.read_text()
