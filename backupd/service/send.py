"""Sends one message to one target through Apprise, and says whether it was taken and why not; no secret comes out."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

from backupd.errors import BackupdError
from backupd.model.masking import mask, parts_of
from backupd.policy.secret import SecretReference, read_secret

_ONE_AT_A_TIME = threading.Lock()
_APPRISE_LOG = logging.getLogger("apprise")


@dataclass(frozen=True, slots=True)
class Sent:
    """How a message to ``target`` went; ``because`` says why it was not taken, in words without secrets."""

    target: str
    taken: bool
    because: str = ""


class _Words(logging.Handler):
    """What the library says while it sends."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def send(target: SecretReference, subject: str, lines: list[str], *, bad: bool = True) -> Sent:
    """Send; never raises for what the world or the config did. Takes at most some ten seconds.

    Args:
        target: where the URL lies.
        subject: the subject line.
        lines: the message in plain words.
        bad: whether it is about trouble; some targets show that.
    """
    name = str(target)
    try:
        url = read_secret(target)
    except BackupdError as error:
        return Sent(name, taken=False, because=f"{error.problem}: {error.because}")
    try:
        import apprise
    except ImportError:
        return Sent(name, taken=False, because="the package apprise is not installed: pip install 'backupd[service]'")
    _quieten()
    words = _Words()
    with _ONE_AT_A_TIME:
        _APPRISE_LOG.addHandler(words)
        try:
            taken, because = _notify(apprise, url, subject, "\n".join(lines), bad=bad)
        except Exception as error:  # noqa: BLE001 - a plugin's bug must not stop the service
            taken, because = False, f"{type(error).__name__}: {error}"
        finally:
            _APPRISE_LOG.removeHandler(words)
    if taken:
        return Sent(name, taken=True)
    said = " ".join("; ".join([because, *words.said] if because else words.said).split())
    return Sent(name, taken=False, because=mask(said, parts_of(url)) or "it was not taken, and nothing says why")


def _quieten() -> None:
    """What libraries log has a target's address in it: Apprise's words go through ``mask``, the others' nowhere.

    Apprise's own import turns its logger's switches, so this comes after it.
    """
    _APPRISE_LOG.propagate = False
    _APPRISE_LOG.setLevel(logging.WARNING)
    for name in ("urllib3", "requests", "httpx", "httpcore", "aiohttp"):
        if logging.getLogger(name).level < logging.ERROR:
            logging.getLogger(name).setLevel(logging.ERROR)


def _notify(apprise: Any, url: str, subject: str, text: str, *, bad: bool) -> tuple[bool, str]:
    one = apprise.Apprise()
    if not one.add(url):
        return False, "it is no URL that Apprise knows"
    kind = apprise.NotifyType.WARNING if bad else apprise.NotifyType.SUCCESS
    return bool(one.notify(body=text, title=subject, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)), ""
