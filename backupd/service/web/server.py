"""Serves the app in a thread, on an address that only this host reaches, or with a token and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from backupd.errors import ConfigInvalid, NotHealthy
from backupd.policy.secret import read_secret
from backupd.policy.web import split_listen
from backupd.service.web.app import make_app
from backupd.service.web.session import TOKEN_LETTERS_MIN

if TYPE_CHECKING:
    from backupd.policy.secret import SecretReference
    from backupd.policy.web import WebOptions
    from backupd.service.desk import Desk

CONNECTIONS_MAX = 256
_START_SECONDS, _STOP_SECONDS = 10.0, 5.0


class PageServer:
    """The page, the API and the metrics of one service.

    Args:
        desk: what they ask.
        options: the part of ``[service]`` that is about the page.
        node: this node's name, by which the page may be asked for.

    Raises:
        ConfigInvalid: the token, the certificate or the key cannot be used.
        NotHealthy: the secret's file cannot be read now.
    """

    def __init__(self, desk: Desk, options: WebOptions, node: str) -> None:
        self._options = options
        self._host, self._port = split_listen(options.listen)
        read_token = None if options.token is None else _checked(options.token)
        self._ssl = _tls_context(options)
        self.app = make_app(
            desk, read_token, names=(node.lower(), *options.names), tls=self._ssl is not None, open_to_all=self._is_open
        )
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def _is_open(self) -> bool:
        """Whether whoever reaches the page may read it: only this host, or only clients with a certificate do."""
        return self._options.is_loopback or self._options.tls_client_ca is not None

    @property
    def address(self) -> str:
        """Where it listens, as a URL; to be asked after ``start``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = self._socket.getsockname()[1] if self._socket else self._port
        return f"{'https' if self._ssl else 'http'}://{host}:{port}/"

    def start(self) -> None:
        """Listen, and serve in a thread of its own.

        Raises:
            NotHealthy: the address is taken, or not this host's.
        """
        self._socket = self._bound()
        tls = self._ssl
        config = uvicorn.Config(
            self.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            h11_max_incomplete_event_size=16 * 1024,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
            ssl_context_factory=None if tls is None else (lambda _config, _default: tls),
        )
        self._server = server = uvicorn.Server(config)
        sockets = [self._socket]
        self._thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=sockets)), name="page")
        self._thread.daemon = True  # an answer that hangs does not keep the service from its end
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_SECONDS / 0.02)):
            if server.started or not self._thread.is_alive():
                break
            waited.wait(0.02)
        if not server.started:
            self.stop()
            raise NotHealthy(
                f"the page does not start on {self._options.listen}",
                because="its server has ended, or says nothing",
                next_step='look into the log, or set listen = "" in [service]',
            )

    def stop(self) -> None:
        """End; open pages are let go. May be called when it never began."""
        self.app.state.announcer.end()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        if self._socket is not None:
            self._socket.close()

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self._host, self._port))
        except OSError as error:
            bound.close()
            raise NotHealthy(
                f"the page cannot listen on {self._options.listen}",
                because=(error.strerror or str(error)).lower(),
                next_step="choose another address: listen in [service] of backupd.toml",
            ) from None
        return bound


def _checked(token: SecretReference) -> Callable[[], str]:
    """The token's reader, tried out once so that a service does not start with a token that is none."""
    if len(read_secret(token)) < TOKEN_LETTERS_MIN:
        raise ConfigInvalid(
            f"the token {token} cannot be used",
            because=f"it is shorter than {TOKEN_LETTERS_MIN} letters and could be guessed",
            next_step="make one with: openssl rand -hex 32",
        )
    return lambda: read_secret(token)


def _tls_context(options: WebOptions) -> ssl.SSLContext | None:
    if options.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
        if options.tls_client_ca is not None:
            context.load_verify_locations(options.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(
            "the page's certificate cannot be used",
            because=f"{options.tls_certificate}, {options.tls_key}: {error.strerror or error}",
            next_step="tls_certificate, tls_key and tls_client_ca name PEM files that backupd's user may read",
        ) from None
    return context
