"""emit(source, plan) -> bytes: walks libcst's tree counting statements as `ast` does, and rebuilds only the spines to edits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise

import libcst as cst

from ampify.plan.edits import Disable, Import, Insert, Plan, Rewrite, Splice, Wrap
from ampify.render import nodes
from ampify.render.splice import splice


class UnreadableError(Exception):
    """libcst does not read the file, though Python does; `line` and `column` are 1-based."""

    def __init__(self, line: int, column: int) -> None:
        super().__init__(f"{line}:{column}")
        self.line, self.column = line, column


class RenderError(Exception):
    """The plan and the syntax trees do not fit together: a bug of ampify's."""


Row = cst.SimpleStatementLine | cst.BaseCompoundStatement


def emit(source: bytes, plan: Plan) -> bytes:
    """The source with the plan's edits. Raises UnreadableError, and RenderError for a bug."""
    source = splice(source, [e for e in plan.edits if isinstance(e, Splice)], plan.names)
    if plan.imports is None and all(isinstance(e, Splice) for e in plan.edits):
        return source
    try:
        module = cst.parse_module(source)
    except cst.ParserSyntaxError as error:
        raise UnreadableError(error.raw_line, error.raw_column + 1) from None
    emitter = _Emitter(plan, module.default_indent)
    body = emitter.body(module.body, 0, "")
    imports = plan.imports or Import((), -1)
    at = _rows_through(module.body, imports.after)
    new: list[Row] = []
    if imports.names:
        new.append(nodes.runtime_import(imports.names, imports.relative))
    above: list[cst.EmptyLine] = []
    for text in imports.setup:
        if text:
            new.append(nodes.line(nodes.statement(text.format(**plan.names))).with_changes(leading_lines=above))
        above = [] if text else [cst.EmptyLine(indent=False)]
    return module.with_changes(body=[*body[:at], *new, *body[at:]]).bytes


def count(node: cst.CSTNode) -> int:
    """How many statements a node stands for, those inside it included, as `ast` counts them."""
    if isinstance(node, (cst.SimpleStatementLine, cst.SimpleStatementSuite)):
        return len(node.body)
    if isinstance(node, cst.IndentedBlock):
        return sum(count(row) for row in node.body)
    return 1 + sum(count(block) for _, block in _blocks(node))


def _rows_through(rows: Sequence[cst.CSTNode], index: int) -> int:
    """How many top-level rows there are through the one that holds statement `index`; 0 for -1.

    Edits do not change that number: planning puts the import before the first statement that is edited and not a definition.
    """
    position = 0
    for number, row in enumerate(rows):
        if position > index:
            return number
        position += count(row)
    return len(rows) if index >= 0 else 0


def _blocks(node: cst.CSTNode) -> list[tuple[str, cst.CSTNode]]:
    """The parts of a compound statement that hold statements, in source order: (field, node); an `elif` is a statement itself."""
    if isinstance(node, cst.Match):
        return [(f"cases[{i}]", case.body) for i, case in enumerate(node.cases)]
    parts = [("body", _body(node))]
    if isinstance(node, (cst.Try, cst.TryStar)):
        parts.extend((f"handlers[{i}]", _body(handler)) for i, handler in enumerate(node.handlers))
    for field in ("orelse", "finalbody"):
        tail = getattr(node, field, None)
        if isinstance(tail, cst.CSTNode):
            parts.append((field, tail if isinstance(tail, cst.If) else _body(tail)))
    return parts


def _body(node: cst.CSTNode) -> cst.CSTNode:
    body = getattr(node, "body", None)
    if not isinstance(body, cst.CSTNode):
        raise RenderError(f"unexpected {type(node).__name__}")
    return body


class _Emitter:
    def __init__(self, plan: Plan, step: str) -> None:
        self.names, self.context, self.disabled_context, self.step = plan.names, plan.region, plan.disabled, step
        self.disabled = {e.at for e in plan.edits if isinstance(e, Disable)}
        self.wraps = {e.first: e for e in plan.edits if isinstance(e, Wrap)}
        self.rewrites: dict[int, list[Rewrite]] = {}
        self.before: dict[int, list[Insert]] = {}
        self.after: dict[int, list[Insert]] = {}
        for edit in plan.edits:
            if isinstance(edit, Rewrite):
                self.rewrites.setdefault(edit.at, []).append(edit)
            elif isinstance(edit, Insert):
                (self.after if edit.after else self.before).setdefault(edit.at, []).append(edit)
        self.anchors = {*self.wraps, *self.rewrites, *self.before, *self.after, *self.disabled}

    def touches(self, first: int, end: int) -> bool:
        """Whether any edit is anchored to a statement from `first` up to `end`."""
        return any(first <= anchor < end for anchor in self.anchors)

    # blocks ------------------------------------------------------------------------------------------

    def body(self, rows: Sequence[cst.CSTNode], first: int, indent: str) -> list[Row]:
        """The rows, indented by `indent`, of a block whose first statement has index `first`, with the edits made."""
        out: list[Row] = []
        wrapped: list[Row] = []
        wrap: Wrap | None = None
        index = first
        for row in rows:
            end = index + count(row)
            if wrap is None and not self.touches(index, end):
                out.append(row)  # type: ignore[arg-type]
                index = end
                continue
            for at, span, piece in self.pieces(row, index, indent):
                last = at + span - 1
                before = self.inserted(self.before, at, piece)
                if before:
                    above, own = nodes.split_leading(piece.leading_lines)
                    before[0] = before[0].with_changes(leading_lines=above)
                    piece = piece.with_changes(leading_lines=own)
                after = self.inserted(self.after, last if isinstance(piece, cst.SimpleStatementLine) else at, piece)
                if wrap is None and at in self.wraps:
                    wrap = self.wraps[at]
                    out.extend(before)
                    wrapped = [piece]
                else:
                    (out if wrap is None else wrapped).extend([*before, piece])
                if wrap is not None and at <= wrap.last <= last:
                    out.append(self.region(wrapped, indent, self.context))
                    wrap = None
                (out if wrap is None else wrapped).extend(after)
            index = end
        if wrap is not None:
            raise RenderError("a region does not end in its block")
        return out

    def inserted(self, side: dict[int, list[Insert]], at: int, beside: cst.CSTNode) -> list[Row]:
        return [nodes.line(self.small(edit, beside)) for edit in side.get(at, ())]

    def small(self, edit: Insert, beside: cst.CSTNode) -> cst.BaseSmallStatement:
        """What is inserted beside a statement, with that one's quotes."""
        return nodes.statement(nodes.quoted(edit.text.format(**self.names), beside))

    def region(self, rows: list[Row], indent: str, context: str) -> cst.With:
        """A region round rows; what stood above the first of them stands above the region."""
        leading = rows[0].leading_lines
        body = [nodes.deeper(row, indent, self.step) for row in (rows[0].with_changes(leading_lines=[]), *rows[1:])]
        return nodes.region(context.format(**self.names), body, leading)

    # rows --------------------------------------------------------------------------------------------

    def pieces(self, row: cst.CSTNode, index: int, indent: str) -> list[tuple[int, int, Row]]:
        """A row with the edits inside it made, as (first statement, number of statements, row); split where a region begins or
        ends in the middle of a line."""
        if isinstance(row, cst.SimpleStatementLine):
            return self.line(row, index, indent)
        return [(index, count(row), self.compound(row, index, indent))]

    def line(self, row: cst.SimpleStatementLine, index: int, indent: str) -> list[tuple[int, int, Row]]:
        smalls = [self.rewritten(small, index + i) for i, small in enumerate(row.body)]
        cuts = [0]
        for i in range(1, len(smalls)):
            starts = index + i in self.wraps
            ends = any(w.last == index + i - 1 for w in self.wraps.values())
            if starts or ends or self.disabled & {index + i - 1, index + i}:
                cuts.append(i)
        cuts.append(len(smalls))
        pieces: list[tuple[int, int, Row]] = []
        for a, b in pairwise(cuts):
            part = self.joined(smalls[a:b], index + a, b == len(smalls))
            piece: Row = row.with_changes(
                body=part,
                leading_lines=row.leading_lines if a == 0 else [],
                trailing_whitespace=row.trailing_whitespace if b == len(smalls) else cst.TrailingWhitespace(),
            )
            if index + a in self.disabled:
                piece = self.region([piece], indent, self.disabled_context)
            pieces.append((index + a, b - a, piece))
        return pieces

    def joined(self, smalls: list[cst.BaseSmallStatement], index: int, last: bool) -> list[cst.BaseSmallStatement]:
        """The statements of one line; what is inserted between two of them joins it. The semicolon of the `last` stays."""
        out: list[cst.BaseSmallStatement] = []
        for i, small in enumerate(smalls):
            if i > 0:
                out.extend(self.small(e, small) for e in self.before.pop(index + i, []))
            out.append(small)
            if i < len(smalls) - 1:
                out.extend(self.small(e, small) for e in self.after.pop(index + i, []))
        return self.separated(out, last)

    @staticmethod
    def separated(smalls: list[cst.BaseSmallStatement], last: bool) -> list[cst.BaseSmallStatement]:
        semicolon = cst.Semicolon(whitespace_after=cst.SimpleWhitespace(" "))
        out = [s if isinstance(s.semicolon, cst.Semicolon) else s.with_changes(semicolon=semicolon) for s in smalls[:-1]]
        return [*out, smalls[-1] if last else smalls[-1].with_changes(semicolon=cst.MaybeSentinel.DEFAULT)]

    def rewritten(self, small: cst.BaseSmallStatement, index: int) -> cst.BaseSmallStatement:
        for edit in sorted(self.rewrites.get(index, ()), key=lambda e: -e.call):
            old = next(islice(nodes.calls(small, edit.method), edit.call, None), None)
            if old is None:
                raise RenderError(f"no call {edit.call} of {edit.method}")
            if edit.form == "beside":
                small = nodes.with_state_beside(small, old, edit.key, self.names["scaler"])
                continue
            small = nodes.replaced(small, old, nodes.through_scaler(old, edit.form, self.names["scaler"]))
        return small

    # compounds ---------------------------------------------------------------------------------------

    def compound(self, node: cst.CSTNode, index: int, indent: str) -> Row:
        """A compound statement with the edits in its blocks made."""
        if index in self.rewrites:
            raise RenderError("an edit in the header of a compound statement")
        changes: dict[str, cst.CSTNode] = {}
        position = index + 1
        for field, block in _blocks(node):
            size = count(block)
            if self.touches(position, position + size):
                changes[field] = (
                    self.compound(block, position, indent) if isinstance(block, cst.If) else self.block(block, position, indent)
                )
            position += size
        for field, new in changes.items():
            node = _replaced(node, field, new)
        return node  # type: ignore[return-value]

    def block(self, block: cst.CSTNode, first: int, indent: str) -> cst.CSTNode:
        if isinstance(block, cst.IndentedBlock):
            deeper = indent + (block.indent if block.indent is not None else self.step)
            return block.with_changes(body=self.body(block.body, first, deeper))
        suite = cst.ensure_type(block, cst.SimpleStatementSuite)
        indices = range(first, first + len(suite.body))
        if not any(i in self.wraps or i in self.disabled for i in indices):
            smalls: list[cst.BaseSmallStatement] = []
            for i, small in zip(indices, suite.body, strict=True):
                smalls.extend(self.small(e, small) for e in self.before.get(i, ()))
                smalls.append(self.rewritten(small, i))
                smalls.extend(self.small(e, small) for e in self.after.get(i, ()))
            return suite.with_changes(body=self.separated(smalls, True))
        row = cst.SimpleStatementLine(suite.body, trailing_whitespace=suite.trailing_whitespace)
        return cst.IndentedBlock(self.body([row], first, indent + self.step))


def _replaced(node: cst.CSTNode, field: str, new: cst.CSTNode) -> cst.CSTNode:
    """A compound statement with one of the parts that `_blocks` names exchanged."""
    name, _, rest = field.partition("[")
    if rest:
        parts = list(getattr(node, name))
        at = int(rest[:-1])
        parts[at] = parts[at].with_changes(body=new)
        return node.with_changes(**{name: parts})
    if name == "body" or isinstance(new, cst.If):
        return node.with_changes(**{name: new})
    return node.with_changes(**{name: getattr(node, name).with_changes(body=new)})
