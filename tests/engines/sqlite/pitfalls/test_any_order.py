"""Anything in any order: a seeded die picks who moves next, also while the capture stands still inside a step."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.engines.sqlite.pitfalls.world import Agent, App, OrderFailed, World

MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")
PAUSES = ("capture.checkpoint", "capture.lock_write", "capture.sync_wal", "logfile.")


class Play:
    """One game: two applications with a reader, one capture that is killed now and then, one passive."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.die = world, random.Random(seed)
        self.apps = [world.writing_app("cache_size=5"), world.app()]
        self.apps[1].open("wal_autocheckpoint=3", "cache_size=5")
        for app in self.apps:
            app.open(name="reader")
        self.agent: Agent = world.agent()
        self.agent.begin()
        self.kinds_allowed = 0

    def busy_is_fine(self, app: App, sql: str) -> None:
        """Do it; an application that is told BUSY gives up its transaction."""
        try:
            app.execute(sql)
        except OrderFailed as failed:
            if "locked" not in failed.because:
                raise
            self.give_up(app)

    def give_up(self, app: App) -> None:
        """Roll back what is open on the main connection."""
        try:
            app.execute("ROLLBACK")
        except OrderFailed as failed:
            if "no transaction" not in failed.because:
                raise

    def application(self) -> None:
        """One thing that applications do."""
        app = self.die.choice(self.apps)
        what = self.die.randrange(10)
        if what < 4:
            try:
                app.write(f"{self.die.random()}", rows=self.die.randrange(1, 30))
            except OrderFailed as failed:
                if "locked" not in failed.because:
                    raise
                self.give_up(app)
        elif what == 4:
            try:
                app.execute("BEGIN IMMEDIATE")
                app.insert("rolled back", rows=40)
            except OrderFailed as failed:
                if "locked" not in failed.because:
                    raise
            self.give_up(app)
        elif what == 5:
            self.busy_is_fine(app, "DELETE FROM t WHERE id % 3 = 0")
        elif what == 6:
            self.busy_is_fine(app, self.die.choice(["VACUUM", "UPDATE t SET wide = 'short' WHERE id % 5 = 0"]))
        elif what == 7:
            self.read(app)
        else:
            self.busy_is_fine(app, f"PRAGMA wal_checkpoint({self.die.choice(MODES)})")

    def read(self, app: App) -> None:
        """Begin to read, or end it."""
        try:
            app.execute("BEGIN", name="reader")
            app.execute("SELECT count(*) FROM t", name="reader")
        except OrderFailed:
            try:
                app.execute("COMMIT", name="reader")
            except OrderFailed as failed:
                if "no transaction" not in failed.because:
                    raise

    def capture(self) -> None:
        """One thing that the capture does, whole or with applications in the middle of it."""
        what = self.die.choice(["capture.tick()"] * 3 + ["capture.seal(0.0)", "capture.ship()"])
        if self.die.randrange(3):
            self.agent.run(what)
            return
        number = self.die.randrange(1, 4)
        self.agent.stop_at(number, self.die.choice(PAUSES))
        # It stands still exactly once: inside, or afterwards when there were not so many steps.
        stop = f"if steps.disarm() < {number}: os.kill(os.getpid(), 19)"
        self.agent.send(run=f"try:\n    {what}\nfinally:\n    {stop}")
        self.agent.wait_stopped()
        for _ in range(self.die.randrange(1, 4)):
            self.application()
        self.agent.go_on()
        self.agent.answer()

    def restart(self) -> None:
        """The capture dies, applications go on, another one begins."""
        self.agent.kill()
        for _ in range(self.die.randrange(3)):
            self.application()
        self.agent = self.world.agent()
        self.kinds_allowed += self.agent.begin() != "go on"

    def play(self, moves: int) -> None:
        """The whole game, and the end of it."""
        for _ in range(moves):
            move = self.die.randrange(20)
            if move == 0:
                self.restart()
            elif move < 11:
                self.application()
            else:
                self.capture()
        self.agent.tick()
        kinds = self.world.kinds()
        assert kinds.count("SEED") == 1
        assert kinds.count("DELTA") <= self.kinds_allowed, "a gap although a capture was there all the time"
        self.world.assert_equal(self.apps[0])
        self.world.assert_restorable(self.apps[0])


@pytest.mark.parametrize("seed", range(2))
def test_anything_in_any_order(world: World, seed: int) -> None:
    """No order of moves makes a gap while a capture lives, and in the end both copies are the same bytes.

    More games: ``pytest -m slow -k any_order``.
    """
    Play(world, seed).play(30)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_games_in_any_order(tmp_path: Path, seed: int) -> None:
    """The same, more of it."""
    world = World(tmp_path)
    try:
        Play(world, seed).play(60)
    finally:
        world.close()
