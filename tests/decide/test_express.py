"""What an express full builds on, what builds on it, and what must stay for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backupd.decide.backup_type import EXPRESS_IN_A_ROW_MAX, BackupChoice, RefuseBackup, decide_backup_type
from backupd.decide.chains import BrokenChain, Chain, archived_end, chain_of, page_line, unfit_by_pages
from backupd.decide.page_files import bases_of_file
from backupd.decide.reasons import Reason
from backupd.decide.restore_path import RestoreWish, find_restore_path, recovery_windows
from backupd.decide.retention import plan_retention
from backupd.errors import NotFound
from backupd.model.records import ArchivedBackup, BackupType, ExpressFacts, Stamps, StoredFile, StoredMap
from backupd.model.rules import RetentionRules
from tests.decide.builders import HISTORY, full, increment, make_backup, minute, place, plain_logs

LOGS = plain_logs(40)


def express(backup_id: str, parent: ArchivedBackup, end: int) -> ArchivedBackup:
    """An express full that ends at ``end``; it names the log since its parent, as a full does."""
    made = make_backup(backup_id, BackupType.EXPRESS, end, parent=parent)
    logs = tuple(LOGS[parent.record.log_end.offset : end])
    return replace(made, record=replace(made.record, log_start=place(end), logs=logs))


F1 = full("F1", 2)
I1 = increment("I1", F1, 4, LOGS)
E1 = express("E1", F1, 6)
I2 = increment("I2", E1, 8, LOGS)
E2 = express("E2", E1, 10)
I3 = increment("I3", E2, 12, LOGS)
ALL = [F1, I1, E1, I2, E2, I3]


def choose(backups: list[ArchivedBackup], known: set[str], **more: object) -> BackupChoice | RefuseBackup:
    return decide_backup_type(BackupType.EXPRESS, Stamps(), backups, HISTORY, known_maps=known, **more)  # type: ignore[arg-type]


def test_it_builds_on_the_newest_of_which_the_map_is_here() -> None:
    for known, base in (({"F1", "E1", "E2"}, E2), ({"F1", "E1"}, E1), ({"F1"}, F1)):
        choice = choose(ALL, known)
        assert isinstance(choice, BackupChoice)
        assert (choice.type, choice.parent, choice.log_start) == (BackupType.EXPRESS, base, None)


@pytest.mark.parametrize(
    ("backups", "known", "more", "code"),
    [
        ([], {"F1"}, {}, "no-full"),
        (ALL, set(), {}, "no-page-map"),
        (ALL, {"I3"}, {}, "no-page-map"),
        (ALL, {"F1", "E1", "E2"}, {"unfit": {"F1": "page 7 is bad"}}, "chain-damaged"),
        ([E1, E2], {"E1", "E2"}, {}, "chain-damaged"),
    ],
)
def test_otherwise_it_is_raised_or_refused(
    backups: list[ArchivedBackup], known: set[str], more: dict[str, object], code: str
) -> None:
    choice = choose(backups, known, **more)
    assert isinstance(choice, BackupChoice)
    assert (choice.type, choice.parent, choice.reasons[0].code) == (BackupType.FULL, None, code)
    refused = choose(backups, known, raise_to_full=False, **more)
    assert isinstance(refused, RefuseBackup)
    assert [reason.code for reason in refused.reasons] == [code, "raise-forbidden"]


def test_a_damaged_express_is_not_built_on_but_what_is_below_it() -> None:
    choice = choose(ALL, {"F1", "E1", "E2"}, unfit={"E1": "page 7 is bad"})
    assert isinstance(choice, BackupChoice)
    assert choice.parent == F1


def test_after_so_many_in_a_row_comes_a_full() -> None:
    backups = [F1]
    for number in range(EXPRESS_IN_A_ROW_MAX):
        choice = choose(backups, {one.record.id for one in backups})
        assert isinstance(choice, BackupChoice)
        assert choice.type is BackupType.EXPRESS
        backups.append(express(f"E{number}", backups[-1], 3 + number))
    choice = choose(backups, {one.record.id for one in backups})
    assert isinstance(choice, BackupChoice)
    assert (choice.type, choice.reasons[0].code) == (BackupType.FULL, "express-depth")


def test_a_chain_of_log_begins_with_it_and_knows_what_it_stands_on() -> None:
    chain = chain_of("I3", ALL)
    assert isinstance(chain, Chain)
    assert (chain.records, chain.bases) == ((E2, I3), (F1, E1))
    assert archived_end(ALL, HISTORY) == place(12)
    assert archived_end(ALL, HISTORY, {"F1"}) is None
    assert archived_end(ALL, HISTORY, {"E2"}) == place(8)


@pytest.mark.parametrize(
    ("backups", "code"),
    [
        ([F1, E2, I3], "parent-missing"),
        ([F1, replace(E1, sha256="another"), E2, I3], "parent-differs"),
        ([F1, I1, express("E9", I1, 10)], "chain-loop"),
    ],
)
def test_a_hole_among_the_pages_breaks_the_chain(backups: list[ArchivedBackup], code: str) -> None:
    line = page_line(backups[-1] if backups[-1] is not I3 else E2, backups)
    assert isinstance(line, Reason)
    assert line.code == code
    broken = chain_of(backups[-1].record.id, backups)
    assert isinstance(broken, BrokenChain)
    assert broken.reasons[0].code == code
    assert archived_end(backups, HISTORY) in {place(2), place(4), place(6)}, "what is below it"


def test_what_harms_a_full_harms_every_express_on_it() -> None:
    harmed = unfit_by_pages(ALL, {"E1": "page 7 is bad"})
    assert set(harmed) == {"E1", "E2"}
    assert harmed["E2"] == "its pages build on E1: page 7 is bad"
    assert set(unfit_by_pages([E1, E2], {})) == {"E1", "E2"}
    assert unfit_by_pages(ALL, {}) == {}


def test_a_restore_begins_with_it_and_reads_what_is_below() -> None:
    path = find_restore_path(RestoreWish.latest(), ALL)
    assert (path.full, path.bases) == (E2, (F1, E1))
    assert path.backups == ("E2", "I3", "F1", "E1")
    assert [stored.log.number for stored in path.logs] == [11, 12], "not the week's log"
    assert any("its pages build on F1, E1" in str(reason) for reason in path.reasons)
    damaged = find_restore_path(RestoreWish.latest(), ALL, unfit={"E1": "page 7 is bad"})
    assert damaged.full == F1
    assert [stored.log.number for stored in damaged.logs] == list(range(3, 13)), "by all the log from the sound full"
    with pytest.raises(NotFound):
        find_restore_path(RestoreWish.latest(), ALL, unfit={"F1": "page 7 is bad"})
    assert recovery_windows(ALL)[0].from_position == place(2)
    assert recovery_windows(ALL, unfit={"F1": "page 7 is bad"}) == ()


def test_pruning_never_takes_what_its_pages_need() -> None:
    records = [backup.record for backup in ALL]
    rules = RetentionRules(keep_within=timedelta(minutes=5))
    newer = full("F2", 14).record
    plan = plan_retention([*records, newer], rules, minute(15))
    reasons = {entry.id: {reason.code for reason in entry.reasons} for entry in plan.keep}
    assert set(reasons) == {"F1", "E1", "E2", "I3", "F2"}, "increments below may go"
    assert reasons["F1"] == reasons["E1"] == {"needed"}
    gone = plan_retention([*records, newer], rules, minute(60))
    assert {entry.id for entry in gone.keep} == {"F2"}
    dropped = [entry.id for entry in gone.drop]
    for first, second in (("I3", "E2"), ("E2", "E1"), ("I2", "E1"), ("E1", "F1"), ("I1", "F1")):
        assert dropped.index(first) < dropped.index(second), "what builds on another goes before it"


def test_around_a_damaged_express_the_log_stays() -> None:
    newer = [full("F2", 14), full("F3", 16)]
    records = [backup.record for backup in (*ALL, *newer)]
    plan = plan_retention(records, RetentionRules(keep_days=1), minute(17), damaged={"E1": "page 7 is bad"})
    reasons = [str(reason) for entry in plan.keep for reason in entry.reasons]
    assert any("I3 is reached from F1, for its own express E2 is damaged" in reason for reason in reasons)


def test_files_are_found_by_their_paths() -> None:
    def file(path: str, *, is_express: bool) -> StoredFile:
        facts = ExpressFacts(1, 1, 2, ((0, 0),)) if is_express else None
        return StoredFile(path, 8192, 4096, 2, "", (), StoredMap(path, 2, 0, ""), express=facts)

    line = []
    for backup, is_express in ((F1, False), (E1, True), (E2, True)):
        files = (file("table", is_express=False), file("volume", is_express=is_express))
        line.append(replace(backup, record=replace(backup.record, files=files)))
    table, volume = line[-1].record.files
    assert bases_of_file(line, table) == ()
    assert bases_of_file(line, volume) == (line[0].record.files[1], line[1].record.files[1])
    whole_in_the_middle = [
        line[0],
        replace(line[1], record=replace(line[1].record, files=line[0].record.files)),
        line[2],
    ]
    assert bases_of_file(whole_in_the_middle, volume) == (line[0].record.files[1],)
