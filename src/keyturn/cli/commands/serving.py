"""serve, worker: the programs that run for long."""

from __future__ import annotations

import signal
import sys

import click

from keyturn.cli import terminal
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import NotFound


@click.command(
    "serve",
    epilog=terminal.examples(
        "keyturn serve",
        "keyturn serve --host 0.0.0.0 --trusted-proxies 10.0.0.4",
        "keyturn serve --host 0.0.0.0 --port 8443 --certificate hub.pem --key hub.key",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8425, show_default=True, help="Port to listen on."
)
@click.option(
    "--trusted-proxies", default="", help="Addresses whose X-Forwarded-For is believed (default: nobody's)."
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False),
    help="Serve over TLS with this chain (PEM).",
)
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False), help="The certificate's private key (PEM)."
)
@pass_session
def serve_command(
    session: Session, host: str, port: int, trusted_proxies: str, certificate: str | None, key: str | None
) -> None:
    """Run the pages, the API and the engine until a signal ends them.

    While nobody has an account it prints a one-time link that makes the first administrator. Runs in flight reach their next safe point first; whatever is unfinished goes on at the next start.
    """
    try:
        from keyturn.api.app import serve
    except ImportError as error:
        raise NotFound(
            f"`keyturn serve` needs {error.name}", hint="pip install 'keyturn[serve]'", field="serve"
        ) from None
    from keyturn.operations import people

    with session.hub(long_running=True) as hub:
        # uvicorn raises the signal again once it has answered everybody; the engine must still come to rest then
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(Exit.DONE))
        address = f"{'https' if certificate else 'http'}://{host}:{port}"
        terminal.note(f"Keyturn listens on {address}")
        if address != hub.settings.public_url and not hub.settings.environment.get("KEYTURN_PUBLIC_URL"):
            terminal.note(
                f"Links lead to {hub.settings.public_url}: set KEYTURN_PUBLIC_URL to how a browser reaches this hub."
            )
        code = people.setup_code(hub)
        if code is not None:
            terminal.note(
                f"Set it up (works once, for a day): {hub.settings.public_url}/setup#{code.reveal()}"
            )
        serve(
            hub,
            host,
            port,
            trusted_proxies=trusted_proxies,
            certificate=certificate or "",
            key=key or "",
        )


@click.command("worker", epilog=terminal.examples("keyturn worker", "KEYTURN_WORKERS=16 keyturn worker"))
@pass_session
def worker_command(session: Session) -> None:
    """Run the engine until SIGTERM or Ctrl-C, without the API.

    Runs in flight reach their next safe point first. A second signal does not wait for them: what is unfinished goes
    on from its journal, here or at another worker.
    """
    from keyturn.operations.hub import work

    with session.hub(long_running=True) as hub:
        terminal.note(f"Working with {hub.settings.workers} runs at once. SIGTERM or Ctrl-C ends it.")
        if not work(hub):
            terminal.note("Some runs did not reach a safe point in time; they go on from their journal.")
            raise click.exceptions.Exit(Exit.FAILED)
