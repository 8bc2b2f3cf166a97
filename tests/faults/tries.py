"""One world, taken anew for each try to break it: files are copied, and a bucket is put back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.faults.step_stories import Story
from tests.runs.world import World
from tests.s3_buckets import Bucket


class Tries:
    """What ``prepare`` made of a new world, as often as it takes; one try at a time."""

    def __init__(
        self, root: Path, prepare: Callable[[World], None], *, bucket: Bucket | None = None, archives_min: int = 0
    ) -> None:
        self._root, self._bucket, self._archives_min = root, bucket, archives_min
        world = self._world("base")
        world.writer.commit("zero")
        prepare(world)
        self._policy, self._at = dict(world.policy), world.clock.at
        self._kept = bucket.keep() if bucket else None
        self._last = world

    @classmethod
    def of(cls, story: Story, root: Path, bucket: Bucket | None = None) -> Tries:
        """Of what a story prepares."""
        return cls(root, story.prepare, bucket=bucket, archives_min=story.archives_min)

    def again(self, name: str) -> World:
        """The prepared world once more, an hour later, in a directory of that name; the last try is gone."""
        if self._last.root.name != "base":
            shutil.rmtree(self._last.root)
        if self._bucket and self._kept:
            self._bucket.put_back(self._kept)
        shutil.copytree(self._root / "base", self._root / name)
        self._last = world = self._world(name)
        world.policy = dict(self._policy)
        world.clock.at = self._at
        world.clock.sleep(3600)
        return world

    def _world(self, name: str) -> World:
        world = World(self._root / name, elsewhere=self._bucket)
        if self._archives_min:
            world.with_second(self._archives_min)
        return world
