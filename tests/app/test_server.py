"""The server of the page: where it listens, what it sends, and that it says what is wrong."""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
from typing import Any

import pytest

from foveal import cli

pytest.importorskip("gradio", reason="the page is the extra foveal[app]")

from foveal.app import server
from foveal.app.server import FIRST_PORT, POLICY, WithoutOutside, listen


def test_the_next_free_port_is_taken_unless_one_was_asked_for() -> None:
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = [one.getsockname()[1] for one in (first, second)]
        assert FIRST_PORT <= ports[0] < ports[1]
        with pytest.raises(ValueError, match=f"port {ports[0]} of 127.0.0.1 is in use"):
            listen("127.0.0.1", ports[0])
    with listen("127.0.0.1", ports[0]) as again:
        assert again.getsockname() == ("127.0.0.1", ports[0])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("app nothing", "there is no directory 'nothing'"),
        ("app --port 70000", "port must be 0 (any free one) to 65535; got 70000"),
        ("app --port x", "Error parsing --port"),
        ("app --host 203.0.113.7", "host must be an address of this machine"),
        ("app --host no.such.host.invalid", "host must be an address of this machine"),
        ("app --max-upload 0", "max-upload must be at least 1 megabyte; got 0"),
        ("app --threads -1", "threads must be a whole number from 0 to 1,024; got -1"),
    ],
)
def test_wrong_flags_give_one_line(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["app", "--no-browser", "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1 is in use by another program" in capsys.readouterr().err


def test_without_gradio_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "foveal.app.layout", None)
    monkeypatch.delattr("foveal.app.layout", raising=False)
    assert cli.main(["app"]) == 2
    assert 'pip install "foveal[app]"' in capsys.readouterr().err


def test_the_command_serves_and_ctrl_c_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served, opened = [], []

    def serve(*arguments: Any) -> None:
        served.append(arguments)
        raise KeyboardInterrupt

    # Gradio leaves event loops open, which the tests do not forgive: elsewhere it runs by itself.
    monkeypatch.setattr("foveal.app.layout.create_page", lambda *_: None)
    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert cli.main(["app", "--port", "0", "--max-upload", "7"]) == 0
    _, listening, limit = served[0]
    assert limit == 7_000_000
    assert listening.fileno() == -1, "it is closed"
    out = capsys.readouterr().out
    assert f"{opened[0]}: the page is open" in out
    assert opened[0].startswith("http://127.0.0.1:")
    assert cli.main(["app", "--port", "0", "--no-browser", "--host", "0.0.0.0"]) == 0
    assert len(opened) == 1
    assert "there is no password" in capsys.readouterr().out


def pass_through(headers: list[tuple[bytes, bytes]], bodies: list[bytes]) -> list[dict[str, Any]]:
    """What comes out of the middleware for a reply in some parts."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, body in enumerate(bodies):
            more = number + 1 < len(bodies)
            await send({"type": "http.response.body", "body": body, "more_body": more})

    sent: list[dict[str, Any]] = []

    async def keep(event: dict[str, Any]) -> None:
        sent.append(event)

    asyncio.run(WithoutOutside(app)({"type": "http"}, None, keep))
    return sent


def test_links_to_other_hosts_are_taken_out_of_pages() -> None:
    bodies = [b'<head><meta property="og:image" con', b'tent="https://example.com/a.png"/>\n<p>']
    html = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"70")]
    start, body = pass_through(html, bodies)
    assert body["body"] == b"<head><p>"
    assert (b"content-length", b"9") in start["headers"]
    assert (b"content-security-policy", POLICY.encode()) in start["headers"]


def test_what_is_no_page_is_passed_on_as_it_comes() -> None:
    bodies = [b"data: 1\n\n", b"data: https://example.com\n\n"]
    start, *parts = pass_through([(b"content-type", b"text/event-stream")], bodies)
    assert [part["body"] for part in parts] == bodies
    assert (b"content-security-policy", POLICY.encode()) in start["headers"]
