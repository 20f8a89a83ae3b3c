"""Knowledge: what is known of a file while its statements are read."""

from __future__ import annotations

import ast

from ampify.analysis.calls import Context, arguments
from ampify.analysis.checkpoints import Checkpoints
from ampify.analysis.exchange import Exchange, exchange
from ampify.analysis.frames import Frame, Frames
from ampify.analysis.groups import Groups
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Roles
from ampify.analysis.summaries import NOTHING, Summaries, Summary, bound
from ampify.analysis.unowned import unowned


class Knowledge:
    """The names, functions and roles of one file, and what was found out of them for its statements."""

    def __init__(self, names: Names, frames: Frames, roles: Roles, summaries: Summaries) -> None:
        self.names, self.frames, self.roles, self.summaries = names, frames, roles, summaries
        self.checkpoints = Checkpoints(names, roles)
        self.groups = Groups(frames, roles)
        modules = {target.partition(".")[0] for target in (*names.aliases.values(), *names.stars)}
        self.draws = "turtle" in modules and "torch" not in modules  # what goes backward in such a file is on a screen
        self.closures: set[ast.AST] = set()  # the functions that steps evaluate
        self._unowned: dict[Frame, frozenset[ast.AST]] = {}
        self._exchange: dict[Frame, Exchange] = {}

    def trains(self, call: ast.Call, frame: Frame) -> bool:
        """Whether a call does more for a training step than to clear gradients."""
        return any(s.backward or s.step for s in (self.summaries.of(t) for t in self.roles.targets(call, frame)))

    def unowned(self, frame: Frame) -> frozenset[ast.AST]:
        """The backward calls and gradients of a frame that concern no optimizer."""
        if frame not in self._unowned:
            self._unowned[frame] = unowned(frame, self.roles)
        return self._unowned[frame]

    def exchange(self, frame: Frame) -> Exchange:
        """What a frame does to exchange gradients between processes."""
        if frame not in self._exchange:
            self._exchange[frame] = exchange(frame, self.names)
        return self._exchange[frame]

    def other_name(self, text: str, frame: Frame) -> str:
        """The name that an optimizer had before, where both are used: `optimizer` after `opt = optimizer`; else its own."""
        bindings = self.frames.lookup(text, frame) if text else []
        value = bindings[0].value if len(bindings) == 1 and bindings[0].how == "assign" and not bindings[0].path else None
        before = dotted(value) if value is not None else ""
        if not before or not (bindings[0].frame in (frame, self.frames.module) or self._is_own(text, before)):
            return text
        sources = self.frames.lookup(before, bindings[0].frame)
        same = self.frames.lookup(before, frame) == sources and len(sources) == 1 and sources[0].how in ("assign", "param")
        return before if same and self.frames.methods_used(before, frame) & {"step", "zero_grad"} else text

    def _is_own(self, *texts: str) -> bool:
        """Whether attributes are set by an object's own methods alone, in all of which they then mean the same."""
        names = {text.removeprefix("self.") for text in texts if text.startswith("self.")}
        foreign = (n for n in self.names.nodes.of(ast.Attribute) if n.attr in names and not isinstance(n.ctx, ast.Load))
        return len(names) == len(texts) and all(dotted(node.value) == "self" for node in foreign)

    def hidden(self, call: ast.Call, frame: Frame) -> Summary:
        """What the functions of this file that a call runs do; `binds` by the names of the calling function."""
        found = NOTHING
        for target in self.roles.targets(call, frame):
            summary = self.summaries.of(target)
            if summary.binds:
                context = Context(target, 0, Context(frame, 0), arguments(call, target, frame, self.roles))
                summary = summary._replace(binds=frozenset(bound(summary, context)))
            found = found.join(summary)
        return found
