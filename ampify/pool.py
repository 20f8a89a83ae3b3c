"""Pool: several processes that do the work; what dies of a file takes that file alone with it."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ampify.convert import Options, Result
from ampify.crew import Answer, Glance, Hand, Task, Work
from ampify.diagnostics import Diagnostic
from ampify.graph import Component, Look
from ampify.job import BUG, Draft

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from ampify.settings import Settings

TICK = 0.2  # seconds after which a pool reports that nothing is new
REMEDY = "The file is left as it is; with --jobs 1 it is converted by itself, and the reason may show."


class _Worker:
    """A process that works, as its parent sees it."""

    def __init__(self, context: BaseContext, options: Options | Settings, others: list[_Worker]) -> None:
        self.pipe, theirs = context.Pipe()
        # What a forked process inherits would keep pipes open when this one is gone.
        inherited = [self.pipe, *(other.pipe for other in others)] if context.get_start_method() == "fork" else []
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, options, inherited), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.component: Component | None = None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Pool:
    """Several processes do the work. Each has one task at a time, so that what dies of it is known."""

    def __init__(self, options: Options | Settings, size: int) -> None:
        import multiprocessing

        # Forked processes share what is imported before; elsewhere a process with threads of the system's may not fork.
        forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
        if forks:
            import ampify.plan.planner
            import ampify.proof
            import ampify.render.emit  # noqa: F401
        self._context: BaseContext = multiprocessing.get_context("fork" if forks else "spawn")
        self._options, self.size = options, size
        self._workers: list[_Worker] = []
        self._again: list[Task] = []
        gc.collect()
        gc.freeze()  # what is there now is garbage in no worker, and stays shared
        try:
            for _ in range(size):
                self._hire()
        except BaseException:
            self.close()
            raise

    def _hire(self) -> None:
        """One worker more, unless the system has no room for it. Raises OSError where none is left."""
        try:
            with _uninterrupted():  # it is for this process to say what an interrupt ends
                self._workers.append(_Worker(self._context, self._options, self._workers))
        except OSError:
            if not self._workers:
                raise

    def free(self) -> list[Component | None]:
        self._resume()
        return [worker.component for worker in self._workers if worker.task is None]

    def submit(self, task: Task) -> None:
        idle = [worker for worker in self._workers if worker.task is None]
        component = task.component if isinstance(task, Work) else None
        self._send(next((w for w in idle if w.component is component), idle[0]), task)

    def _send(self, worker: _Worker, task: Task) -> None:
        worker.task = task
        try:
            if isinstance(task, Glance):
                worker.pipe.send(task)
                return
            if task.component is not worker.component:
                worker.component = task.component
                worker.pipe.send(task.component)
            worker.pipe.send(task.request)
        except OSError:
            pass  # it is dead, as the next wait finds

    def _resume(self) -> None:
        """Goes on with tasks that died with others."""
        for worker in self._workers:
            if worker.task is None and self._again:
                self._send(worker, self._again.pop())

    def wait(self) -> list[tuple[Task, Answer]]:
        from multiprocessing.connection import wait

        self._resume()
        ready = wait([worker.pipe for worker in self._workers], TICK)
        found: list[tuple[Task, Answer]] = []
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            task, worker.task = worker.task, None
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                worker.end()
                found.extend(self._after(task, worker.process.exitcode))
                self._hire()
                continue
            assert task is not None
            found.append((task, answer))
        return found

    def _after(self, task: Task | None, code: int | None) -> list[tuple[Task, Answer]]:
        """What is to be said of the task that a process died of; several files are looked at again, one by one."""
        if isinstance(task, Glance) and len(task.paths) > 1:
            self._again.extend(Glance((path,), task.beside) for path in task.paths)
            return []
        if isinstance(task, Glance):
            return [(task, [Look(problem=_death(code))])]
        if task is not None:
            result = Result("error", b"", diagnostics=(_death(code),), bug=True)
            return [(task, Draft(task.request.path, task.request.shown, result))]
        return []

    def close(self) -> None:
        gc.unfreeze()
        while self._workers:
            self._workers[-1].end()
            self._workers.pop()


def _death(code: int | None) -> Diagnostic:
    how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    return Diagnostic(BUG, "error", 1, 1, f"the process that worked on it ended {how}, for want of memory perhaps", REMEDY)


def _work(pipe: Connection, options: Options | Settings, ends: list[Connection]) -> None:
    """What a worker process does until its parent is gone: tasks, and components in which they are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in ends:
        end.close()
    hand = Hand(options)
    component: Component | None = None
    try:
        while True:
            order = pipe.recv()
            if isinstance(order, Component):
                component = order
                hand.take_up(component)
                continue
            pipe.send(hand.do(order if isinstance(order, Glance) else Work(order, component or Component())))
    except Exception:  # nobody is left to tell, or there is no memory to tell it with: the parent sees that it ended
        raise SystemExit(1) from None


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds an interrupt back; a process that is started meanwhile is never interrupted."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
