"""Layout: a tree of statements as source text, in one of the many ways in which people lay out the same statements."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

Tree = list["str | tuple[str, Tree]"]  # statements, or headers with what is under them
T = TypeVar("T")

COMMENTS = (
    "# note",
    "#",
    "# loss.backward()",
    "# fmt: off",
    "#: scaler.update()",
    "# Grüße, 損失",
    "#" + "=" * 60,
    "# type: ignore",
)
TEXTS = (
    '"""one line"""',
    '"""\nloss.backward()\n    optimizer.step()\n"""',
    "note = '''a\n\tb\n  # no comment\n'''",
    'note = f"""{1 + 1}\n  and {\'more\'}\n"""',
    'note = ("a"\n"b")',
    "note = r'''\\\n'''",
)
UNITS = ("    ", "  ", "\t", " ", "        ")


class Choices:
    """What a strategy draws from, in few words; what is drawn shrinks towards the first choice, and towards False."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def one(self, *options: T) -> T:
        return options[self._draw(st.integers(0, len(options) - 1))] if len(options) > 1 else options[0]

    def chance(self, one_in: int) -> bool:
        return bool(self._draw(st.integers(0, one_in - 1)) == one_in - 1)

    def order(self, items: Sequence[T]) -> list[T]:
        return list(self._draw(st.permutations(items)))


class Layout(NamedTuple):
    """The habits of one file: each is a chance of one in so many, or 0 for never."""

    newline: str = "\n"
    units: tuple[str, ...] = ("    ",)
    comments: int = 0
    blanks: int = 0
    semicolons: int = 0
    one_line: int = 0
    breaks: int = 0
    texts: int = 0
    final: str = "\n"
    head: str = ""


def habits(choices: Choices) -> Layout:
    """A plain layout for every third file."""
    if choices.chance(3):
        return Layout()
    units = choices.one(("    ",), ("\t",), ("  ",), ("    ", "  "), UNITS, (" ",), ("    ", "\t"))
    newline = choices.one("\n", "\n", "\r\n")
    rare = [choices.one(0, 0, 4, 9) for _ in range(6)]
    final = choices.one(newline, newline, "", newline * 3, newline + "# the end")
    head = choices.one("", "", "", "\ufeff", "#!/usr/bin/env python" + newline, "# -*- coding: utf-8 -*-" + newline)
    return Layout(newline, units, *rare, final, head)


def text(tree: Tree, layout: Layout, choices: Choices) -> bytes:
    """The file. Line ends inside of strings are the file's own too, as an editor would write them."""
    lines = "\n".join(_Writer(layout, choices).block(tree, ""))
    return (layout.head + (lines + "\n").removesuffix("\n").replace("\n", layout.newline) + layout.final).encode()


class _Writer:
    def __init__(self, layout: Layout, choices: Choices) -> None:
        self.layout, self.choices = layout, choices

    def now(self, habit: int) -> bool:
        return habit > 0 and self.choices.chance(habit)

    def block(self, tree: Tree, indent: str) -> list[str]:
        lines: list[str] = []
        waiting = list(tree)
        while waiting:
            item = waiting.pop(0)
            follows = item[0] if isinstance(item, tuple) else item
            bound = follows.startswith(("else", "elif", "except", "finally", "from __future__", '"""')) or (
                bool(lines) and lines[-1].lstrip().startswith("@")
            )
            if not bound:
                lines += self.between(indent)
            if isinstance(item, tuple):
                lines += self.compound(*item, indent)
                continue
            statement = self.broken(item)
            while waiting and isinstance(waiting[0], str) and not item.startswith("@") and self.now(self.layout.semicolons):
                if waiting[0].startswith("@"):
                    break
                statement += self.choices.one("; ", ";", " ;  ") + self.broken(str(waiting.pop(0)))
            if not item.startswith("@") and self.now(self.layout.semicolons * 3):
                statement += ";"
            lines.append(indent + statement + self.trailing())
        return lines

    def between(self, indent: str) -> list[str]:
        found: list[str] = []
        if self.now(self.layout.blanks):
            found += self.choices.one([""], ["", ""], [indent], ["\f"], ["  "])
        if self.now(self.layout.comments):
            found.append(self.choices.one(indent, indent, "", indent + "  ") + self.choices.one(*COMMENTS))
        if self.now(self.layout.texts * 2):
            found.append(indent + self.choices.one(*TEXTS))
        return found

    def compound(self, header: str, body: Tree, indent: str) -> list[str]:
        simple = [s for s in body if isinstance(s, str) and not s.startswith("@")]
        if len(simple) == len(body) <= 3 and not header.startswith("class") and self.now(self.layout.one_line):
            return [f"{indent}{header}{self.choices.one(' ', '', '  ')}{'; '.join(simple)}{self.trailing()}"]
        inner = indent + self.choices.one(*self.layout.units)
        return [indent + header + self.trailing(), *self.block(body, inner)]

    def trailing(self) -> str:
        if self.now(self.layout.comments):
            return self.choices.one("  ", " ", "") + self.choices.one(*COMMENTS)
        return "  " if self.now(self.layout.blanks * 2) else ""

    def broken(self, statement: str) -> str:
        """The statement over several lines, where a line may be broken."""
        if "'" in statement or '"' in statement or "#" in statement or not self.now(self.layout.breaks):
            return statement
        depth, places = 0, []
        for at, character in enumerate(statement):
            depth += (character in "([{") - (character in ")]}")
            if depth and character in "([{,":
                places.append(at + 1)
        if not places or self.choices.chance(4):
            head, equals, tail = statement.partition(" = ")
            return f"{head} = \\\n  {tail}" if equals else statement
        at = self.choices.one(*places)
        return (
            statement[:at]
            + self.choices.one("\n", "  # why\n", "\n\n")
            + self.choices.one("      ", "", "\t")
            + statement[at:].lstrip()
        )
