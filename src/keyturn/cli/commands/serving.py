"""serve, worker: the programs that run for long."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import click

from keyturn.cli import terminal
from keyturn.cli.session import Session, pass_session
from keyturn.errors import NotFound


@click.command(
    "serve", epilog=terminal.examples("keyturn serve", "keyturn serve --host 0.0.0.0 --port 8425 --no-engine")
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8425, show_default=True, help="Port to listen on."
)
@click.option(
    "--no-engine", is_flag=True, help="Answer requests only; runs are advanced by `keyturn worker`."
)
@pass_session
def serve_command(session: Session, host: str, port: int, no_engine: bool) -> None:
    """Run the API and the engine until a signal ends them.

    Runs in flight reach their next safe point first; whatever is unfinished goes on at the next start.
    """
    try:
        import uvicorn

        from keyturn.api.app import create_app  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise NotFound(
            f"`keyturn serve` needs {error.name}", hint="pip install 'keyturn[serve]'", field="serve"
        ) from None
    with session.hub() as hub:
        if not no_engine:
            hub.engine.start()
        terminal.note(
            f"Keyturn listens on http://{host}:{port}" + ("" if not no_engine else ", without an engine")
        )
        config = uvicorn.Config(
            create_app(hub),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=20,
        )
        uvicorn.Server(config).run()
        terminal.note("Ending: runs in flight reach their next safe point.")


@click.command("worker", epilog=terminal.examples("keyturn worker", "KEYTURN_WORKERS=16 keyturn worker"))
@pass_session
def worker_command(session: Session) -> None:
    """Run the engine until SIGTERM or Ctrl-C, without the API.

    Runs in flight reach their next safe point first. A second signal does not wait for them: what is unfinished goes
    on from its journal, here or at another worker.
    """
    ended = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        if ended.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with session.hub() as hub:
        hub.engine.start()
        terminal.note(f"Working with {hub.settings.workers} runs at once. SIGTERM or Ctrl-C ends it.")
        while not ended.wait(timeout=3600):
            pass
        terminal.note("Ending: runs in flight reach their next safe point.")
