"""Importing: what the imports of the old packages become, as far as the names that they bring are rewritten."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.migration.layout import Layout, Token, span
from ampify.migration.legacy import MOVED, symbol
from ampify.migration.references import Reference, References
from ampify.migration.scopes import Binding, target
from ampify.plan.edits import Replace


class Importing:
    """Plans the edits of import statements, for references that are `moved`; others may take the names `taken` from here."""

    def __init__(self, layout: Layout, references: References, moved: list[Reference], taken: set[str]) -> None:
        self.layout, self.references = layout, references
        self.star = any(r.binding is None and r.through != "torch" for r in moved)
        used = {id(r.binding): r for r in moved if r.through}
        staying = {id(r.binding) for r in references.known} - used.keys()
        staying |= {id(r.binding) for r in references.known if r not in moved}
        self.names: dict[ast.Import | ast.ImportFrom, list[ast.alias]] = {}  # by statement, what goes to torch.amp of it
        self.bindings: dict[ast.alias, Binding] = {}
        for binding in references.scopes.bindings:
            for stmt, alias in binding.imports:
                found = symbol(alias_name(stmt, alias))
                if found is not None and found.name != "common" and id(binding) in used and id(binding) not in staying:
                    self.names.setdefault(stmt, []).append(alias)
                self.bindings[alias] = binding
        for stmt, aliases in self.names.items():  # what nobody reads goes along
            for alias in getattr(stmt, "names", ()) if isinstance(stmt, ast.ImportFrom) else ():
                unread = alias in self.bindings and not self.bindings[alias].reads and self.bindings[alias].name not in taken
                found = symbol(alias_name(stmt, alias))
                if unread and alias not in aliases and found is not None and found.name in MOVED:
                    aliases.append(alias)

    def obstacles(self) -> list[tuple[Binding, str]]:
        """The names that cannot be imported from torch.amp as the statement is written."""
        found = []
        for stmt, aliases in self.names.items():
            if isinstance(stmt, ast.ImportFrom) and len(aliases) < len(stmt.names) and self._has_comments(stmt):
                why = "is imported with others that stay, and the import has comments inside"
                found += [(self.bindings[alias], why) for alias in aliases]
        return found

    def edits(self) -> Iterator[tuple[ast.stmt, tuple[Replace, ...]]]:
        """The edits of each import that goes to torch.amp."""
        for star in self.references.stars if self.star else ():
            yield star, (self._shorter(star),)
        for stmt, aliases in self.names.items():
            if isinstance(stmt, ast.Import):
                yield stmt, tuple(self._dropped(self.layout.of(alias), 0) for alias in aliases)
            elif isinstance(stmt, ast.ImportFrom):
                yield stmt, (self._shorter(stmt) if len(aliases) == len(stmt.names) else self._split(stmt, aliases),)

    def _shorter(self, stmt: ast.ImportFrom) -> Replace:
        """`from torch.cuda.amp import` without what is between torch and amp; the module begins at the second token."""
        return self._dropped(self.layout.of(stmt), 1)

    @staticmethod
    def _dropped(tokens: list[Token], at: int) -> Replace:
        return Replace(tokens[at].end, tokens[at + 2].end, "")

    def _split(self, stmt: ast.ImportFrom, ours: list[ast.alias]) -> Replace:
        """Two imports in place of one."""
        parts = []
        _, _, *inner = (stmt.module or "").split(".")  # behind torch.cuda
        module = ".".join(["torch", *inner])
        ours = [a for a in stmt.names if a in ours]
        for source, aliases in ((module, ours), (stmt.module, [a for a in stmt.names if a not in ours])):
            written = ", ".join(a.name + (f" as {a.asname}" if a.asname else "") for a in aliases)
            parts.append(f"from {source} import {written}")
        start, end = span(stmt)
        row = self.layout.lines[start[0] - 1]
        alone = not row[: start[1]].strip()
        gap = self.layout.newline + row[: start[1]].decode() if alone else "; "
        return Replace(start, end, gap.join(parts))

    def _has_comments(self, stmt: ast.stmt) -> bool:
        """Whether there are comments between the names of an import."""
        return any(token.text.startswith("#") for token in self.layout.of(stmt))


def alias_name(stmt: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The qualified name that an import names, whatever it binds."""
    return alias.name if isinstance(stmt, ast.Import) else target(stmt, alias)
