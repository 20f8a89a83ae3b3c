"""Batch: the files of one call: a first look at all, then component by component, told in the order in which they were given."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ampify import files
from ampify.convert import Options, Result
from ampify.crew import Alone, Crew, Glance, Work, processors
from ampify.graph import Component, Graph, Look
from ampify.job import BUG, Draft, Job, Outcome, Request
from ampify.source import is_candidate

if TYPE_CHECKING:
    from ampify.settings import Settings

POOL = 20  # files that may hold training steps: for more of them, several processes are worth their start
LOOKS = 16  # files that are looked at as one task

# Told now and then what is being done, to how many files it has been, and of how many.
Progress = Callable[[str, int, int], None]
# Writes the files of a settled job, if they are to be written; their outcomes, by real path.
Finish = Callable[[Job], dict[str, Outcome]]


class _Running:
    """A job that is under way: what it asks for, and what it has got."""

    def __init__(self, component: Component, job: Job) -> None:
        self.component, self.job = component, job
        self.requests: deque[Request] = deque()
        self.finished = False
        self._drafts: list[Draft] = []
        self._missing = 0
        self._steps = job.settle()
        self._go_on(None)

    def take(self, draft: Draft) -> None:
        """Takes what was asked for; with the last of it the job goes on."""
        self._drafts.append(draft)
        if len(self._drafts) == self._missing:
            self._go_on(self._drafts)

    def _go_on(self, drafts: list[Draft] | None) -> None:
        try:
            requests = next(self._steps) if drafts is None else self._steps.send(drafts)
        except StopIteration:
            self.finished = True
            return
        self.requests.extend(requests)
        self._drafts, self._missing = [], len(requests)


class Batch:
    """Converts the files of one call. `given` are their paths as the user gave them, by their real ones."""

    def __init__(
        self, given: dict[str, str], options: Options | Settings, finish: Finish, jobs: int | None, progress: Progress | None
    ) -> None:
        self._given, self._options, self._finish, self._jobs = given, options, finish, jobs
        self._progress: Progress = progress or (lambda *_: None)

    def outcomes(self, order: Iterable[str | Outcome]) -> Iterator[Outcome]:
        """What becomes of the files, as soon as it is known of them and all before them; `order` has real paths, and outcomes
        that are known."""
        crew = self._crew()
        try:
            graph = self._graph(crew)
            settled = self._settle(crew, graph)
            involved = graph.involved()
            waiting: dict[str, Outcome] = {}  # what is done before its turn
            for item in order:
                if isinstance(item, Outcome):
                    yield item
                elif item not in involved:
                    yield Outcome(self._given[item], b"", _without_step(graph, item))
                else:
                    while item not in waiting:
                        waiting.update(next(settled))
                    yield waiting.pop(item)
        finally:
            crew.close()

    def _crew(self) -> Crew:
        """Several processes, where there is enough for them to do."""
        size = self._jobs if self._jobs is not None else processors()
        if size > 1 and len(self._given) > POOL:
            read = (files.read_optional(path) for path in self._given)
            candidates = (True for data in read if data is not None and is_candidate(data))
            if next(islice(candidates, POOL, None), False):
                with contextlib.suppress(OSError):  # where the system has no room for processes
                    from ampify.pool import Pool  # only here: start-up is measured

                    return Pool(self._options, size)
        return Alone(self._options)

    def _graph(self, crew: Crew) -> Graph:
        """Who can have a part in whose conversion."""
        graph = Graph(self._given)
        if len(self._given) == 1:  # it stands alone, and is looked at as it is converted
            graph.add(next(iter(self._given)), Look(candidate=True))
            return graph
        self._look(crew, graph, self._given.items(), beside=False)
        if self._options.vendors():
            graph.join_directories()
        graph.join_by_name()
        while unseen := graph.unseen():
            self._look(crew, graph, ((path, path) for path in unseen), beside=True)
        return graph

    def _look(self, crew: Crew, graph: Graph, paths: Iterable[tuple[str, str]], *, beside: bool) -> None:
        waiting = iter(paths)
        looked, under_way = 0, 0
        while True:
            while crew.free() and (some := tuple(islice(waiting, LOOKS))):
                crew.submit(Glance(some, beside))
                under_way += len(some)
            if not under_way:
                return
            for task, answer in crew.wait():
                assert isinstance(task, Glance)
                assert isinstance(answer, list)
                for (path, _), seen in zip(task.paths, answer, strict=True):
                    graph.add(path, seen)
                under_way -= len(answer)
                looked += len(answer)
            if not beside:
                self._progress("looked at", looked, len(self._given))

    def _settle(self, crew: Crew, graph: Graph) -> Iterator[dict[str, Outcome]]:
        """The outcomes of one component after the other, by real path, once they are written."""
        components = graph.components()
        running: dict[str, _Running] = {}  # by their first files
        done = len(self._given) - len(graph.candidates)
        while True:
            while (known := crew.free()) and (chosen := self._next(known, running, components, graph)):
                crew.submit(Work(chosen.requests.popleft(), chosen.component))
            if not running:
                return
            for task, answer in crew.wait():
                assert isinstance(task, Work)
                assert isinstance(answer, Draft)
                running[task.component.files[0]].take(answer)
                done += task.request.need is None and not task.request.trains
            for first in [first for first, each in running.items() if each.finished]:
                yield self._finish(running.pop(first).job)
            self._progress("done", done, len(self._given))

    def _next(
        self, known: list[Component | None], running: dict[str, _Running], components: Iterator[Component], graph: Graph
    ) -> _Running | None:
        """The job that is to be gone on with: one that somebody who is free has files of in memory, else a new one, else any."""
        waiting = [each for each in running.values() if each.requests]
        if chosen := next((each for each in waiting if any(each.component is one for one in known)), None):
            return chosen
        if component := next(components, None):
            given = {path: self._given[path] for path in component.files}
            settled = [path for path in component.files if path not in graph.candidates]
            drafts = [Draft(path, given[path], _without_step(graph, path)) for path in settled]
            running[component.files[0]] = _Running(component, Job(given, self._options, drafts))
            return running[component.files[0]]
        return waiting[0] if waiting else None


def _without_step(graph: Graph, path: str) -> Result:
    """What a file comes to in which no training step can be."""
    problem = graph.problems.get(path)
    if problem is None:
        return Result("unchanged", b"")
    return Result("error", b"", diagnostics=(problem,), bug=problem.code == BUG)
