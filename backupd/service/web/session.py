"""Who may change something: the token for programs, and for people a session that the token opens."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from itsdangerous import BadSignature, URLSafeTimedSerializer

from backupd.errors import BackupdError, Refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "backupd_session"
SESSION_SECONDS_MAX = 8 * 3600
TOKEN_LETTERS_MIN = 16
# Each wrong token costs this long, one after the other: guessing takes for ever.
WRONG_TOKEN_SECONDS = 0.5

ReadToken = Callable[[], str]


class MayNot(Refused):
    """Nobody may change anything: the service has no token that can be used."""


class NotSignedIn(Refused):
    """The token is missing or wrong."""


class Sessions:
    """Checks tokens and sessions.  Sessions end with the process, with the token, and after some hours.

    Args:
        read_token: reads the token anew each time, for secrets change; None: nobody may change anything.
        tls: whether browsers come by HTTPS.
    """

    def __init__(self, read_token: ReadToken | None, *, tls: bool) -> None:
        self._read_token, self._tls = read_token, tls
        self._key = secrets.token_bytes(32)
        self._turn = asyncio.Lock()

    @property
    def can_sign_in(self) -> bool:
        """Whether there is a token at all."""
        return self._read_token is not None

    def _token(self) -> str:
        """The token as it is now. Raises MayNot: there is none, or it could be guessed."""
        if self._read_token is None:
            raise MayNot(
                "nothing can be changed here",
                because="the service has no token",
                next_step="set token in [service] of backupd.toml, or use backupctl on the host",
            )
        try:
            token = self._read_token()
        except BackupdError as error:
            raise MayNot(
                "nothing can be changed now", because="the service's token cannot be read", next_step=error.next_step
            ) from None
        if len(token) < TOKEN_LETTERS_MIN:
            raise MayNot(
                "nothing can be changed here",
                because=f"the service's token is shorter than {TOKEN_LETTERS_MIN} letters and could be guessed",
                next_step="make one with: openssl rand -hex 32",
            )
        return token

    async def check_token(self, given: str) -> None:
        """Compare in constant time; a wrong one costs time, also several at once.

        Raises:
            NotSignedIn: it is missing or wrong.
            MayNot: there is no token.
        """
        token = self._token()
        if given and hmac.compare_digest(given.encode(), token.encode()):
            return
        if given:
            async with self._turn:
                await asyncio.sleep(WRONG_TOKEN_SECONDS)
        raise not_signed_in(given=bool(given))

    def open(self, response: Response) -> None:
        """Give the browser a session; to be called after ``check_token``."""
        response.set_cookie(
            COOKIE,
            self._signer("session").dumps(secrets.token_urlsafe(16)),
            max_age=SESSION_SECONDS_MAX,
            httponly=True,
            samesite="strict",
            secure=self._tls,
            path="/",
        )

    def close(self, response: Response) -> None:
        """Take the session away."""
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=self._tls)

    def session_of(self, request: Request) -> str:
        """The session that the browser has; empty when it has none that is good."""
        try:
            return self._read("session", request.cookies.get(COOKIE, ""))
        except Refused:
            return ""

    def form_mark(self, request: Request) -> str:
        """What each form of this session carries, and no other site's page can know."""
        session = self.session_of(request)
        return self._signer("form").dumps(session) if session else ""

    def form_mark_or_none(self, request: Request) -> str:
        """As ``form_mark``; empty as well while there is no token that can be used."""
        try:
            return self.form_mark(request)
        except Refused:
            return ""

    def saying(self, sentence: str) -> str:
        """A sentence for the next page's address, which nobody else can write."""
        return self._signer("saying").dumps(sentence)

    def said(self, text: str) -> str:
        """The sentence again; empty when it is not ours."""
        try:
            return self._read("saying", text) if text else ""
        except Refused:
            return ""

    def check_form(self, request: Request, mark: str) -> None:
        """Let a form in that was made for this session.

        Raises:
            NotSignedIn: there is no session, or the form was made for another one.
            MayNot: there is no token.
        """
        self._token()
        session = self.session_of(request)
        if not session or not hmac.compare_digest(self._read("form", mark), session):
            raise not_signed_in(given=False)

    async def check_bearer(self, request: Request) -> None:
        """Let a program in. Raises NotSignedIn, MayNot."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        await self.check_token(given.strip() if scheme.lower() == "bearer" else "")

    def _read(self, what: str, text: str) -> str:
        try:
            found = self._signer(what).loads(text, max_age=SESSION_SECONDS_MAX)
        except BadSignature:
            return ""
        return found if isinstance(found, str) else ""

    def _signer(self, what: str) -> URLSafeTimedSerializer:
        """By a key that is another one when the token is another one. Raises MayNot."""
        key = hmac.new(self._key, self._token().encode(), hashlib.sha256).digest()
        return URLSafeTimedSerializer(key, salt=f"backupd {what}", signer_kwargs={"digest_method": hashlib.sha256})


def not_signed_in(*, given: bool) -> NotSignedIn:
    """The failure for a token that is missing or wrong; says nothing of either."""
    return NotSignedIn(
        "you may look, and not change anything",
        because="the token is not the service's" if given else "there is no token with the request",
        next_step="sign in with the service's token; a program sends it as Authorization: Bearer",
    )
