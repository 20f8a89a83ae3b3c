"""Reached: which functions of imported files a program may run, by the names that it speaks of."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.walk import children, walk

if TYPE_CHECKING:
    from ampify.analysis.library import File


def reached(file: File, imported: Iterable[File]) -> Iterator[Frame]:
    """The functions of imported files that a file may run, as far as their names and those of their classes are spoken of in it,
    or in another that may run; what stands at module level runs when it is imported."""
    words = _words(file.tree)
    waiting = [frame for other in imported for frame in other.frames.all]
    classes = [info for other in imported for info in other.frames.classes.values()]
    before = -1
    while before != len(words):
        before = len(words)
        for info in classes:
            if info.node.name in words:
                words.update(name for base in info.node.bases for name in _words(base))
        held, waiting = waiting, []
        for frame in held:
            if _is_spoken_of(frame, words):
                words |= _own_words(frame)
                yield frame
            else:
                waiting.append(frame)


def runners(file: File) -> list[File]:
    """The files of the same call that run a training step of a file by a function or class that they import, themselves or
    through others: what they hand it may take part."""
    found: list[File] = []
    waiting = [file]
    while waiting:
        current = waiting.pop()
        summaries = current.library.summaries
        training = {_known_as(f) for f in current.frames.all if f.parent is not None and summaries.of(f).backward}
        for importer in current.importers if training else ():
            taken = importer.names.taken | importer.names.attributes
            if importer is not file and importer not in found and not training.isdisjoint(taken):
                found.append(importer)
                waiting.append(importer)
    return found


def handing(runner: File, file: File) -> list[File]:
    """A file that runs a training step of another one, and what it imports: what these build may take part. Files that train by
    themselves keep what they build, and what they import."""
    found, waiting = [runner], [runner]
    while waiting:
        importing = waiting.pop()
        for level, name in importing.seen.imports:
            other = runner.library.imported(importing, level, name)
            if other is not None and other is not file and other not in found and "backward" not in other.names.attributes:
                found.append(other)
                waiting.append(other)
    return found


def _known_as(frame: Frame) -> str:
    """The name by which other files get at a function: that of its class, for a method."""
    return frame.method.owner.node.name if frame.method is not None and frame.method.owner is not None else frame.name


def _is_spoken_of(frame: Frame, words: set[str]) -> bool:
    if frame.parent is None:
        return True
    if frame.owner is None:
        return frame.name in words
    return frame.owner.node.name in words and (frame.name in words or frame.name.startswith("__") or frame.name == "forward")


def _own_words(frame: Frame) -> set[str]:
    """The names in a function, without those in functions and classes of a module."""
    if frame.parent is not None:
        return _words(frame.node)
    found: set[str] = set()
    stack: list[ast.AST] = [frame.node]
    while stack:
        node = stack.pop()
        found |= _word(node)
        stack.extend(c for c in children(node) if not isinstance(c, (*FUNCTIONS, ast.ClassDef)))
    return found


def _words(tree: ast.AST) -> set[str]:
    return {word for node in walk(tree) for word in _word(node)}


def _word(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    return {node.name.rpartition(".")[2]} if isinstance(node, ast.alias) else set()
