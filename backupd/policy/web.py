"""Where the page, the metrics and the API listen, and who may do what there."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from backupd.policy.secret import Secret
from backupd.policy.sections import AbsolutePath, Section


def split_listen(listen: str) -> tuple[str, int]:
    """``127.0.0.1:8630`` or ``[::1]:8630`` as address and port.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port) if colon and port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise ValueError(f"{listen!r} is not an address and a port; write it like 127.0.0.1:8630 or [::1]:8630")
    return host, number


def _listen(value: str) -> str:
    if value:
        split_listen(value)
    return value


class WebOptions(Section):
    """The part of ``[service]`` that is about the page."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:8630",
        description="Where the page, /metrics and the API listen, like 127.0.0.1:8630; empty: nowhere.",
    )
    token: Secret | None = Field(
        default=None,
        description="Where the token lies that lets somebody change something; without it all is read-only.",
    )
    tls_certificate: AbsolutePath | None = Field(default=None, description="The certificate chain of the page (PEM).")
    tls_key: AbsolutePath | None = Field(default=None, description="The private key of tls_certificate (PEM).")
    tls_client_ca: AbsolutePath | None = Field(
        default=None, description="Only clients with a certificate of this authority (PEM) are let in."
    )
    names: list[str] = Field(
        default_factory=list,
        description="Host names, besides localhost and addresses, that the page may be asked for by.",
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach the page."""
        return not self.listen or ipaddress.ip_address(split_listen(self.listen)[0]).is_loopback

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together; one of them is missing")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        missing = [name for name in ("token", "tls_certificate", "tls_key") if getattr(self, name) is None]
        if missing and not self.is_loopback:
            raise ValueError(
                f"listen = {self.listen!r} can be reached from other hosts, which needs {', '.join(missing)}; "
                "or listen on 127.0.0.1 and reach it through ssh -L"
            )
        return self
