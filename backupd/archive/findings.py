"""What is wrong with an archive, as values and as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.errors import BackupdError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be; pages count from 0, both ends inside."""

    object_name: str
    problem: str
    backup_id: str = ""
    file: str = ""
    first_page: int | None = None
    last_page: int | None = None

    def sentence(self) -> str:
        """For a person."""
        words = [self.object_name]
        if self.file:
            words.append(f"file {self.file}")
        if self.first_page is not None:
            words.append(f"pages {self.first_page} to {self.last_page}")
        return f"{', '.join(words)}: {self.problem}"

    def to_json(self) -> dict[str, object]:
        """For a script."""
        return {
            "object": self.object_name,
            "problem": self.problem,
            "backup": self.backup_id,
            "file": self.file,
            "first_page": self.first_page,
            "last_page": self.last_page,
        }


def finding_of(problem: BackupdError, object_name: str, *, backup_id: str = "", file: str = "") -> Finding:
    """The finding that an error about an object stands for."""
    details = problem.details
    return Finding(
        object_name=str(details.get("object") or object_name),
        problem=problem.because,
        backup_id=backup_id,
        file=str(details.get("file") or file),
        first_page=details.get("first_page"),
        last_page=details.get("last_page"),
    )
