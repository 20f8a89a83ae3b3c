"""walk, children: the nodes of a syntax tree, several times faster than ast.walk, where a conversion would spend a third of its
time; Index: all of a tree's, by their class."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar

Node = TypeVar("Node", bound=ast.AST)

# Fields that never hold a node that anybody asks for: texts, numbers, contexts (Load, Store) and operators.
PLAIN = frozenset("asname attr conversion ctx id is_async kind level module op ops simple type_comment".split())


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """By class, the fields that may hold nodes."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        fields = () if kind is ast.Constant else tuple(f for f in kind._fields if f not in PLAIN)
        self[kind] = fields
        return fields


_FIELDS = _Fields()


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all nodes below it but contexts and operators, each before its children; siblings in no particular order."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        for field in _FIELDS[current.__class__]:
            value = getattr(current, field, None)
            if value.__class__ is list:
                stack.extend([item for item in value if isinstance(item, ast.AST)])
            elif isinstance(value, ast.AST):
                stack.append(value)


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes directly below a node, in the order of its fields, without contexts and operators."""
    for field in _FIELDS[node.__class__]:
        value = getattr(node, field, None)
        if value.__class__ is list:
            for item in value:
                if isinstance(item, ast.AST):
                    yield item
        elif isinstance(value, ast.AST):
            yield value


class Index:
    """The nodes of a tree by their class, those of one class in the order of `walk`."""

    def __init__(self, tree: ast.AST) -> None:
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self._found: defaultdict[type[ast.AST], list[ast.AST]] = defaultdict(list)
        stack, found = [tree], self._found
        while stack:  # as `walk` does, without a generator: every file is gone through here
            node = stack.pop()
            kind = node.__class__
            found[kind].append(node)
            for field in _FIELDS[kind]:
                value = getattr(node, field, None)
                if value.__class__ is list:
                    stack.extend([item for item in value if isinstance(item, ast.AST)])
                elif isinstance(value, ast.AST):
                    stack.append(value)
            if kind is ast.Import or kind is ast.ImportFrom:
                self.imports.append(node)  # type: ignore[arg-type]

    def of(self, kind: type[Node]) -> list[Node]:
        """The nodes of exactly a class."""
        return self._found.get(kind, [])  # type: ignore[return-value]
