"""Crew: what there is to do, and this process as the one who does it all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ampify.convert import Options
from ampify.graph import Component, Look, look, look_beside
from ampify.job import Draft, Request, draft
from ampify.local import Local, Places

if TYPE_CHECKING:
    from ampify.settings import Settings


class Glance(NamedTuple):
    """Files that are to be looked at, as pairs of the real path and the user's; `beside` the given ones."""

    paths: tuple[tuple[str, str], ...]
    beside: bool = False


class Work(NamedTuple):
    """A file that is to be converted in memory, as a part of a component."""

    request: Request
    component: Component


Task = Glance | Work
Answer = list[Look] | Draft


class Crew(Protocol):
    """Does tasks: each that is submitted is answered once, in any order."""

    size: int

    def free(self) -> list[Component | None]:
        """Those who could begin another task now, each by the component that it worked at last."""

    def submit(self, task: Task) -> None:
        """Gives a task to one who is free, to one who knows its component if there is one."""

    def wait(self) -> list[tuple[Task, Answer]]:
        """What has been done since; now and then nothing."""

    def close(self) -> None:
        """Ends all work."""


class Hand:
    """One who does tasks, and remembers what was read for the component that it works at."""

    def __init__(self, options: Options | Settings) -> None:
        self._options, self._places = options, Places()
        self._component: Component | None = None
        self._local = Local()

    def do(self, task: Task) -> Answer:
        """Does one task."""
        if isinstance(task, Glance):
            if task.beside:
                return [look_beside(path, self._places) for path, _ in task.paths]
            return [look(path, shown, self._places) for path, shown in task.paths]
        if task.component is not self._component:
            self.take_up(task.component)
        return draft(task.request, self._options, self._local)

    def take_up(self, component: Component | None) -> None:
        """Begins with another component, and forgets the last one."""
        self._component = component
        importers = component.importers if component is not None else {}
        alone = component.files[0] if component is not None and len(component.files) == 1 and not importers else ""
        self._local = Local(importers, self._places, alone)


class Alone:
    """This process does all the work."""

    size = 1

    def __init__(self, options: Options | Settings) -> None:
        self._hand = Hand(options)
        self._task: Task | None = None
        self._last: Component | None = None

    def free(self) -> list[Component | None]:
        return [self._last] if self._task is None else []

    def submit(self, task: Task) -> None:
        self._task = task
        self._last = task.component if isinstance(task, Work) else None

    def wait(self) -> list[tuple[Task, Answer]]:
        task, self._task = self._task, None
        return [(task, self._hand.do(task))] if task is not None else []

    def close(self) -> None:
        self._task = None


def processors() -> int:
    """How many processes this one may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
