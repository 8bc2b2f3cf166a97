"""Why an answer is what it is: a short stable code for programs, a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason; ``code`` never changes its meaning, ``sentence`` may be reworded."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def as_json(self) -> dict[str, str]:
        """The form that ``blocked_by`` and ``explain --json`` use."""
        return {"code": self.code, "because": self.sentence}
