"""Cut: statements taken out of a source, or out of the block round them, with every comment kept, and all other lines."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Sequence

from ampify.migration.apex_form import Kept
from ampify.migration.layout import Layout, span
from ampify.plan.edits import Replace


class Cut:
    """Gathers what is to be taken out, line by line."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.removed: set[int] = set()
        self.shift: dict[int, int] = {}  # by line, how much of its indentation goes
        self.inserted: dict[int, list[str]] = {}  # by line, what goes in front of it
        self._inline: list[Replace] = []
        strings = [t for t in layout.tokens if t.kind == tokenize.STRING]
        self._strings = {line for t in strings for line in range(t.start[0] + 1, t.end[0] + 1)}

    def edits(self) -> list[Replace]:
        """All that was gathered, as edits that do not overlap."""
        newline, found = self.layout.newline, list[Replace]()
        found += [Replace((line, 0), (line, 0), "".join(t + newline for t in texts)) for line, texts in self.inserted.items()]
        found += [Replace((line, 0), (line + 1, 0), "") for line in self.removed]
        for line, count in self.shift.items():
            if line not in self.removed and line not in self._strings:
                row = self.layout.lines[line - 1]
                found.append(Replace((line, 0), (line, min(count, len(row) - len(row.lstrip(b" \t")))), ""))
        found += [e for e in self._inline if not self.removed.intersection(range(e.start[0], e.end[0] + 1))]
        return found

    def origins(self) -> list[int]:
        """By line of the output, the line of the source that it comes from, or goes in front of."""
        found = []
        for line in range(1, len(self.layout.lines) + 2):
            found += [line] * len(self.inserted.get(line, ()))
            found += [line] * (line not in self.removed)
        return found

    # what is taken out -----------------------------------------------------------------------------------------

    def inline(self, edit: Replace) -> None:
        """A stretch of one line exchanged."""
        self._inline.append(edit)

    def insert(self, line: int, *texts: str) -> None:
        """Lines in front of a line."""
        self.inserted.setdefault(line, []).extend(texts)

    def rewrite(self, stmt: ast.stmt, text: str) -> None:
        """A statement of one line written anew."""
        if stmt.lineno != stmt.end_lineno:
            raise Kept(stmt, "the import is spread over several lines")
        self.inline(Replace(*span(stmt), text))

    def text(self, node: ast.expr) -> str:
        """An expression of one line as it is written."""
        (line, start), (last, end) = span(node)
        if line != last:
            raise Kept(node, "an expression is spread over several lines")
        return self.layout.lines[line - 1][start:end].decode()

    def statement(self, stmt: ast.stmt) -> None:
        """A whole statement, and one of the blank lines round it."""
        self._alone(stmt)
        first, last = stmt.lineno, stmt.end_lineno or stmt.lineno
        kept = self._remove(first, last, self.layout.indent(first))
        lines = self.layout.lines
        blank = [not 0 < n <= len(lines) or not lines[n - 1].strip() for n in (first - 1, last + 1)]
        if all(blank) and not kept and first not in self.inserted and last + 1 <= len(lines):
            self.removed.add(last + 1)

    def unwrap(self, stmt: ast.With | ast.If, kept: Sequence[ast.stmt]) -> None:
        """A compound statement, of which some statements inside stay in its place."""
        self._alone(stmt)
        indent = self.layout.indent(stmt.lineno)
        first, last = kept[0].lineno, kept[-1].end_lineno or kept[-1].lineno
        if self.layout.lines[stmt.lineno - 1][stmt.col_offset :].startswith(b"elif"):
            raise Kept(stmt, "it is one test of several")
        if first == stmt.lineno:
            self.inline(Replace(span(stmt)[0], span(kept[0])[0], ""))
        elif self.layout.is_fresh(span(kept[0])[0]):
            self._remove(stmt.lineno, first - 1, indent)
            for line in range(first, last + 1):
                self.shift[line] = self.shift.get(line, 0) + kept[0].col_offset - stmt.col_offset
        else:  # `else: statement`
            self._remove(stmt.lineno, first - 1, indent)
            self.inline(Replace((first, 0), span(kept[0])[0], indent))
        self._remove(last + 1, stmt.end_lineno or stmt.lineno, indent)

    def entry(self, node: ast.Dict, at: int) -> None:
        """An entry of a dict, with its comma."""
        key = node.keys[at]
        if key is None:
            raise Kept(node.values[at], "the state of apex.amp is merged into a dict")
        (start, (_, end)), lines = (span(key)[0], span(node.values[at])), self.layout.lines
        behind = lines[end[0] - 1][end[1] :].strip()
        if self.layout.is_fresh(start) and behind in (b"", b","):
            self._remove(start[0], end[0], "")
        elif at + 1 < len(node.keys) and (after := node.keys[at + 1]) is not None:
            self.inline(Replace(start, span(after)[0], ""))
        elif at:
            self.inline(Replace(span(node.values[at - 1])[1], end, ""))
        else:
            self.inline(Replace(start, end, ""))

    def _remove(self, first: int, last: int, indent: str) -> list[str]:
        """Takes lines out; their comments stay, in lines of their own."""
        if first > last:
            return []
        comments = [indent + t.text for t in self.layout.between((first, 0), (last + 1, 0)) if t.kind == tokenize.COMMENT]
        self.removed.update(range(first, last + 1))
        if comments:
            self.insert(first, *comments)
        return comments

    def _alone(self, stmt: ast.stmt) -> None:
        """A statement that is alone in its lines."""
        start, end = span(stmt)
        behind = self.layout.lines[end[0] - 1][end[1] :].strip()
        if not self.layout.is_fresh(start) or (behind and not behind.startswith(b"#")):
            raise Kept(stmt, "it shares a line with other statements")
