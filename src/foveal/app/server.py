"""The server of the page: Gradio, on a socket of its own, with nothing from anywhere else."""

import asyncio
import errno
import logging
import os
import re
import socket
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from foveal.app.wording import static

FIRST_PORT, TRIES = 7860, 100
OUTSIDE = re.compile(rb'<meta\s[^>]*content="https?://[^>]*>\s*')
# Gradio's own page works within this, and a browser asks no other host for anything.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens on a host: on the port, or on the first free one from 7860.

    Raises `ValueError` if the port is in use, or may not be used, or there is no such host.
    """
    if port is not None and not 0 <= port <= 65_535:
        raise ValueError(f"port must be 0 (any free one) to 65535; got {port}.")
    ports = range(FIRST_PORT, FIRST_PORT + TRIES) if port is None else [port]
    for number in ports:
        try:
            return _listen(host, number)
        except OSError as problem:
            if isinstance(problem, socket.gaierror) or problem.errno == errno.EADDRNOTAVAIL:
                raise ValueError(
                    f"host must be an address of this machine, such as 127.0.0.1; got {host!r}."
                ) from None
            if problem.errno == errno.EACCES:
                raise ValueError(
                    f"port {number} may not be used ({problem.strerror}). Choose one from 1024."
                ) from None
            if problem.errno != errno.EADDRINUSE:
                raise
    if port is None:
        raise ValueError(
            f"ports {FIRST_PORT} to {FIRST_PORT + TRIES - 1} of {host} are all in use. "
            "Pass --port with a free one."
        )
    raise ValueError(
        f"port {port} of {host} is in use by another program. Choose another --port, or leave "
        "--port out, and the first free one is taken."
    )


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # or a port stays taken for minutes after its server has ended
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    return listening


class WithoutOutside:
    """ASGI middleware: the page names no other host, and the browser is told to ask none."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and its answer back without links to other hosts."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: dict[str, Any] = {}

        async def filtered(event: Any) -> None:
            if event["type"] == "http.response.start":
                headers = [
                    (name, value)
                    for name, value in event["headers"]
                    if name.lower() != b"content-security-policy"
                ]
                headers.append((b"content-security-policy", POLICY.encode()))
                event["headers"] = headers
                if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                    held.update(start=event, body=b"")
                    return
            elif held and event["type"] == "http.response.body":
                held["body"] += event.get("body", b"")
                if event.get("more_body"):
                    return
                body = OUTSIDE.sub(b"", held["body"])
                start = held["start"]
                start["headers"] = [
                    (name, str(len(body)).encode() if name == b"content-length" else value)
                    for name, value in start["headers"]
                ]
                await send(start)
                await send({"type": "http.response.body", "body": body})
                held.clear()
                return
            await send(event)

        await self.app(scope, receive, filtered)


def theme() -> gr.themes.Base:
    """Gradio's own look in the system's fonts, with more contrast."""
    plain = gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return plain.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def serve(blocks: gr.Blocks, listening: socket.socket, max_upload: int) -> None:
    """Serve a page until the process is told to stop; the largest upload is in bytes."""
    host, port = listening.getsockname()[:2]
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        blocks,
        "/",
        host,
        port,
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=max_upload,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=static("app.css"),
    )
    config = uvicorn.Config(
        WithoutOutside(app), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    mounted: Any = app.routes[-1]
    _Server(config, mounted.app.stop_event).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the connections that open pages keep, before it waits for the end of all."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("foveal.app").setLevel(logging.WARNING)  # pages close: it does not go on
        self._stop.set()
        await super().shutdown(sockets)
