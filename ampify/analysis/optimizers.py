"""The optimizers of a scope: what each of them was built with, and which of them an event concerns."""

from __future__ import annotations

import ast
from typing import NamedTuple

from ampify.analysis import gradients, owners
from ampify.analysis.calls import Context
from ampify.analysis.facts import Raw
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.sites import Sites
from ampify.program import GROUP, Kind, Optimizer, Refusal, overlap


class View(NamedTuple):
    """A scope as it is built: what the names of the function at hand mean in it, its optimizers, and the reasons against it."""

    context: Context
    optimizers: tuple[Optimizer, ...]
    refusals: list[Refusal]

    def roots(self, raw: Raw) -> frozenset[str]:
        """What an event touches, by the names of the scope; see Raw."""
        return owners.outside(raw.roots, self.context)


def built_with(key: str, frame: Frame, sites: Sites) -> frozenset[str]:
    """The roots of what an optimizer was built with; empty when its construction is not in sight."""
    if key.endswith(GROUP):
        return sites.groups.roots(key, frame)
    roots: set[str] = set()
    for value, where in sites.roles.sources(key, frame):
        if isinstance(value, ast.Call) and not _constructs(value, where, sites.roles):
            # A factory: what it is handed is what it builds on.
            roots |= {t for t in gradients.touched(value, where, sites.roles) if not t.startswith("@")}
        elif isinstance(value, ast.Call):
            given = value.args[:1] or [k.value for k in value.keywords if k.arg == "params"]
            for argument in given:
                roots |= owners.roots(argument, where, sites.roles)
    for call, where in sites.frames.calls_named("add_param_group", True) if roots else ():
        same = isinstance(call.func, ast.Attribute) and dotted(call.func.value) == key
        if (same or where is not frame) and call.args:
            roots |= owners.roots(call.args[0], where, sites.roles)
    return frozenset(roots)


def _constructs(call: ast.Call, frame: Frame, roles: Roles) -> bool:
    """Whether a call builds an optimizer, and so takes the parameters first; `model.configure_optimizers(...)` does not."""
    last = roles.at(frame).callee(call.func).rpartition(".")[2]
    return last == "*" or last[:1].isupper()


def is_wrapper(key: str, frame: Frame, roles: Roles) -> bool:
    """Whether an optimizer is one inside another object, which has a step of its own."""
    return not key.endswith(GROUP) and roles.of(ast.parse(key, mode="eval").body, frame) is Role.WRAPPER


def concerned(raw: Raw, view: View) -> tuple[str, ...]:
    """The optimizers whose gradients an event is about, by the names of the scope; `?` where nobody can tell which."""
    if raw.key:
        targets: tuple[str, ...] = (view.context.key(raw.key),)
        if raw.kind is Kind.ZERO and raw.key.endswith(GROUP):
            members = targets[0].removesuffix("*]")
            targets += tuple(o.key for o in view.optimizers if o.key != targets[0] and o.key.startswith(members))
    elif raw.kind is Kind.HANDED:
        targets = tuple(sorted(r[1:] for r in view.roots(raw)))
    elif raw.kind in (Kind.READ, Kind.REPLACE):
        targets = _owning(raw, view)
    elif raw.kind is Kind.EXCHANGE:
        targets = _cleared(view.roots(raw), view)
        if view.optimizers and (not targets or set(targets) != set(_owning(raw, view))):
            view.refusals.append(Refusal("AMP917", raw.line, raw.column, "some gradients stay with their process"))
    elif raw.kind is Kind.ZERO:
        targets = _cleared(view.roots(raw), view)
    else:
        targets = tuple(sorted(raw.roots))
    return targets


def _owning(raw: Raw, view: View) -> tuple[str, ...]:
    """The optimizers that own what a gradient is read of; all that may, where their parameters are not in sight."""
    given = view.roots(raw)
    direct = frozenset(r[1:] for r in given if r.startswith("="))
    groups = {r[1:] for r in given if r.startswith("@")}
    roots = frozenset(r for r in given if r[0] not in "=@")
    named = tuple(o.key for o in view.optimizers if o.key in groups)
    frame, frames = view.context.frame, view.context.frame.home
    unnamed = [r[1:] for r in raw.roots if r.startswith("@") and view.context.key(r[1:]) not in named]
    if any(not g or any(b.how == "for" for b in frames.lookup(g, frame, linked=True)) for g in unnamed):
        return tuple(o.key for o in view.optimizers)  # of one optimizer of several, whichever it is
    if not given:
        return tuple(o.key for o in view.optimizers)
    if named and not roots and not direct:
        return named
    owning = tuple(o.key for o in view.optimizers if o.key in groups or overlap(roots | direct, o.roots))
    if owning or not view.optimizers or (groups and not roots and raw.soft):
        return owning
    unknown = tuple(o.key for o in view.optimizers if not o.roots)
    if raw.soft:
        return unknown
    if direct or not unknown:
        return ("?",)
    return unknown


def _cleared(roots: frozenset[str], view: View) -> tuple[str, ...]:
    """The optimizers all of whose gradients are gone after the models in `roots` cleared theirs."""
    if "*" in roots:
        return tuple(o.key for o in view.optimizers)
    if len(view.optimizers) == 1 and not view.optimizers[0].roots and not view.optimizers[0].key.endswith(GROUP):
        return (view.optimizers[0].key,)
    return tuple(
        o.key
        for o in view.optimizers
        if o.roots and all(any(own == r or own.startswith((r + ".", r + "[")) for r in roots) for own in o.roots)
    )
