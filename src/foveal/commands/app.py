"""``foveal app``: the interactive page."""

import contextlib
import logging
import webbrowser

import tyro

from foveal.commands.console import say, working
from foveal.commands.flags import set_threads

LOOPBACK = ("127.0.0.1", "::1")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # and what of it to open here


def app(
    model: tyro.conf.Positional[tuple[str, ...]] = (),
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = True,
    max_upload: int = 200,
    threads: int = 1,
) -> None:
    """Open a page in the browser: draw a digit, look at an image of your own, play Catch.

    The page shows where a model looks, step by step. It runs on this machine, for this machine
    alone; it sends nothing to anyone, and loads nothing from the network. Several people may use it
    at once. Ctrl-C ends it. It needs Gradio: pip install "foveal[app]".

    Args:
        model: run directories or saved models to offer besides the pretrained ones.
        host: address to listen on; 0.0.0.0 lets other machines in, without a password.
        port: to listen on; the first free one from 7860 if not given.
        browser: open a browser. Pass --no-browser on a machine without one.
        max_upload: largest image file that may be uploaded, in megabytes.
        threads: cores for arithmetic; 0 for all.
    """
    if max_upload < 1:
        raise ValueError(f"max-upload must be at least 1 megabyte; got {max_upload}.")
    set_threads(threads)
    _log_to_stderr()
    with working("starting", quiet=False):
        try:
            from foveal.app import layout, models, server  # noqa: PLC0415 (slow; an extra)
        except ImportError as missing:
            raise ValueError(
                f'the page needs Gradio ({missing}). Install it: pip install "foveal[app]"'
            ) from None
        listening = server.listen(host, port)
    with listening:
        with working("loading the models", quiet=False):
            page = layout.create_page(*models.load_models(model), max_upload * 10**6)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{EVERYWHERE.get(host, shown)}:{port}"
        say(f"{url}: the page is open. Ctrl-C ends it.")
        if host not in LOOPBACK:
            say("Whoever reaches this machine can use it: there is no password.")
        if browser:
            webbrowser.open(url)  # the socket listens already: the browser waits for the answer
        with contextlib.suppress(KeyboardInterrupt):
            server.serve(page, listening, max_upload * 10**6)


def _log_to_stderr() -> None:
    log, handler = logging.getLogger("foveal.app"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("foveal app: %(message)s"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
