"""Where capture goes on: a table of what was found, and the rule that any doubt is a comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.engines.sqlite.resume import FrameTrace, ResumeFacts, ResumeKind, judge_resume

SALTS, SUMS = (100, 7), (11, 12)
UNTOUCHED = FrameTrace(SALTS, SUMS)

# The log was appended to, and all that was shipped is there.
PLAIN = ResumeFacts(
    has_log=True,
    has_map=True,
    same_file=True,
    same_page_size=True,
    new_history_because="",
    last_salts=SALTS,
    last_frame=40,
    last_sums=SUMS,
    index_salts=SALTS,
    index_max_frame=50,
    trace=UNTOUCHED,
    next_chains=True,
)
# The log was restarted once, and behind what was shipped lies something older.
RESTARTED = replace(PLAIN, index_salts=(101, 99), index_max_frame=5, next_chains=False)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        pytest.param(PLAIN, ResumeKind.GO_ON, id="appended"),
        pytest.param(replace(PLAIN, index_max_frame=40, next_chains=None), ResumeKind.GO_ON, id="nothing-new"),
        pytest.param(replace(PLAIN, last_frame=0, trace=None), ResumeKind.GO_ON, id="nothing-shipped-of-it-yet"),
        pytest.param(replace(PLAIN, index_max_frame=39), ResumeKind.DELTA, id="shorter-than-shipped"),
        pytest.param(
            replace(PLAIN, trace=FrameTrace(SALTS, (11, 13))), ResumeKind.DELTA, id="other-sums-at-the-same-place"
        ),
        pytest.param(replace(PLAIN, trace=None), ResumeKind.DELTA, id="file-too-short"),
        pytest.param(
            replace(PLAIN, last_salts=(0, 0), index_salts=(0, 0), last_frame=0),
            ResumeKind.DELTA,
            id="zeros-say-nothing",
        ),
        pytest.param(RESTARTED, ResumeKind.GO_ON_AFTER_RESTART, id="one-restart-exactly-there"),
        pytest.param(replace(RESTARTED, next_chains=True), ResumeKind.DELTA, id="restart-with-an-unshipped-tail"),
        pytest.param(replace(RESTARTED, next_chains=None), ResumeKind.DELTA, id="restart-and-the-file-ends"),
        pytest.param(replace(RESTARTED, index_salts=(102, 99)), ResumeKind.DELTA, id="two-restarts"),
        pytest.param(replace(RESTARTED, index_salts=(77, 99)), ResumeKind.DELTA, id="random-salts"),
        pytest.param(
            replace(RESTARTED, trace=FrameTrace((101, 99), SUMS)), ResumeKind.DELTA, id="overwritten-by-the-new-one"
        ),
        pytest.param(replace(RESTARTED, last_frame=0), ResumeKind.DELTA, id="restart-of-an-empty-log"),
        pytest.param(replace(PLAIN, same_file=False), ResumeKind.NEW_HISTORY, id="another-file"),
        pytest.param(replace(PLAIN, new_history_because="restored"), ResumeKind.NEW_HISTORY, id="restored"),
        pytest.param(replace(PLAIN, has_log=False), ResumeKind.FULL_SEED, id="first-start"),
        pytest.param(replace(PLAIN, has_map=False), ResumeKind.FULL_SEED, id="map-lost"),
        pytest.param(replace(PLAIN, same_page_size=False), ResumeKind.FULL_SEED, id="page-size"),
        pytest.param(
            replace(PLAIN, has_map=False, new_history_because="restored"), ResumeKind.FULL_SEED, id="restored-no-map"
        ),
    ],
)
def test_the_table(facts: ResumeFacts, kind: ResumeKind) -> None:
    found = judge_resume(facts)
    assert found.kind is kind
    assert found.because


def test_salt_wraps_around() -> None:
    """Salt 1 is a 32-bit number that is counted up."""
    last = (0xFFFFFFFF, 7)
    facts = replace(RESTARTED, last_salts=last, index_salts=(0, 99), trace=FrameTrace(last, SUMS))
    assert judge_resume(facts).kind is ResumeKind.GO_ON_AFTER_RESTART


NUMBERS = st.integers(0, 3)
PAIRS = st.tuples(NUMBERS, NUMBERS)
FACTS = st.builds(
    ResumeFacts,
    has_log=st.booleans(),
    has_map=st.booleans(),
    same_file=st.booleans(),
    same_page_size=st.booleans(),
    new_history_because=st.sampled_from(["", "restored"]),
    last_salts=PAIRS,
    last_frame=NUMBERS,
    last_sums=PAIRS,
    index_salts=PAIRS,
    index_max_frame=NUMBERS,
    trace=st.none() | st.builds(FrameTrace, PAIRS, PAIRS),
    next_chains=st.none() | st.booleans(),
)


@given(FACTS)
def test_going_on_needs_proof(facts: ResumeFacts) -> None:
    """It goes on only when the file is the same one, and the very frame that was shipped last is still there."""
    found = judge_resume(facts).kind
    if found not in (ResumeKind.GO_ON, ResumeKind.GO_ON_AFTER_RESTART):
        return
    assert facts.has_log
    assert facts.has_map
    assert facts.same_file
    assert facts.same_page_size
    assert not facts.new_history_because
    nothing_shipped = facts.last_frame == 0 and facts.index_salts == facts.last_salts != (0, 0)
    assert nothing_shipped or facts.trace == FrameTrace(facts.last_salts, facts.last_sums)
    if found is ResumeKind.GO_ON:
        assert facts.index_salts == facts.last_salts
        assert facts.index_max_frame >= facts.last_frame
    else:
        assert facts.index_salts[0] == facts.last_salts[0] + 1
        assert facts.next_chains is False


@given(FACTS, st.sampled_from(["last_sums", "last_salts", "trace"]))
def test_one_doubt_is_enough(facts: ResumeFacts, doubted: str) -> None:
    """Whatever goes on, does so no longer when the last shipped frame is told differently."""
    if judge_resume(facts).kind not in (ResumeKind.GO_ON, ResumeKind.GO_ON_AFTER_RESTART) or facts.last_frame == 0:
        return
    other: dict[str, object] = {"last_sums": (9, 9), "last_salts": (9, 9), "trace": None}
    changed = replace(facts, **{doubted: other[doubted]})  # type: ignore[arg-type]
    assert judge_resume(changed).kind is ResumeKind.DELTA
