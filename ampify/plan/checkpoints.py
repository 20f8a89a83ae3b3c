"""Checkpoints: the scaler's state beside the optimizer's, where that is saved and where it is loaded.

Source: the torch.amp.GradScaler reference ("state_dict", "load_state_dict"): a run that resumes without it starts at the initial
scale. Loading is written so that a checkpoint from before the conversion, without the key, still loads; where the optimizer's
state is popped the scaler's is too, as what is left is for somebody else. Where the scaler's state has no place a note says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby

from ampify.plan.edits import Edit, Insert, Need, Rewrite, anchor, moved
from ampify.plan.places import Places
from ampify.program import Elsewhere, Event, Kind, Note, Program, Scope, Stmt

STATES = (Kind.SAVE, Kind.LOAD)
SAVES, LOADS = "AMP111", "AMP112"
KEYS = ("scaler", "grad_scaler", "amp_scaler")


def key_of(program: Program, elsewhere: Elsewhere, given: Iterable[Edit] = ()) -> str:
    """The scaler's key in checkpoints: the one that it has already, or one that nothing else of the program is called by; empty
    where the one that it has is something else's in another file. Edits `given` by other files bring theirs with them."""
    asked = keys(given) or frozenset({elsewhere.key} - {""})
    events = [e for scope in program.scopes for s in scope.statements() for e in s.events]
    own = next((e.form for e in events if e.kind in STATES and e.done and e.form), "")
    taken = (program.taken - set(program.runtime.values())) | program.strings
    if asked or own:
        chosen = own or min(asked)
        fits = chosen not in elsewhere.taken and (own or not asked & taken)
        return chosen if fits and asked <= {chosen} else ""
    taken |= elsewhere.taken
    return next(k for k in (*KEYS, *(f"{KEYS[-1]}{i}" for i in range(2, 100))) if k not in taken)


def keys(edits: Iterable[Edit]) -> frozenset[str]:
    """The keys by which edits save or load the scaler's state."""
    return frozenset(e.key for e in edits if isinstance(e, (Insert, Rewrite)) and e.key)


def plan_checkpoints(scope: Scope, places: Places, key: str) -> list[Edit]:
    """The edits of one scope; `key` is the scaler's in the checkpoint."""
    edits: list[Edit] = []
    for stmt in scope.statements():
        for event in stmt.events:
            if event.kind not in STATES or event.done or not event.form:
                continue
            if event.form == "entry":
                edits.append(Rewrite(stmt.number, "state_dict", event.call, "beside", SAVES, key))
            elif not _is_last(stmt, event, places):
                continue
            elif event.kind is Kind.SAVE:
                edits.append(Insert(stmt.number, True, f"{event.text}[{key!r}] = {{scaler}}.state_dict()", SAVES, key))
            else:
                take = "pop" if event.form == "popped" else "get"
                text = f"{{scaler}}.load_state_dict({event.text}.{take}({key!r}, {{{{}}}}))"
                edits.append(Insert(stmt.number, True, text, LOADS, key))
    return edits


def states_elsewhere(elsewhere: Elsewhere, key: str) -> Iterator[Need]:
    """What other files are to be rewritten with, to save and load the scaler's state there. They need not be."""
    for path, scopes in groupby(sorted(elsewhere.scopes, key=_path), _path):
        planned = [(s, e) for s in scopes for e in plan_checkpoints(s, Places(s), key)] if path not in elsewhere.fixed else []
        if planned:
            edits = tuple(moved(e, -elsewhere.starts[path]) for _, e in planned)
            scope, first = min(planned, key=lambda pair: anchor(pair[1]))
            line = next(s.line for s in scope.statements() if s.number == anchor(first))
            what = "saved" if first.code == SAVES else "loaded"
            yield Need(path, line, "AMP196", what, grave=False, edits=edits)


def lost_elsewhere(elsewhere: Elsewhere, keyed: bool, planned: bool) -> Iterator[Note]:
    """Where an optimizer's state goes without the scaler's in other files of the program, as notes of the first line."""
    for scope in elsewhere.scopes:
        for note in lost_states(scope, keyed, planned and scope.path not in elsewhere.fixed):
            yield note._replace(line=1, column=0, detail=f"{note.detail} ({os.path.relpath(scope.path)}:{note.line})")


def _path(scope: Scope) -> str:
    return scope.path


def lost_states(scope: Scope, keyed: bool, planned: bool) -> Iterator[Note]:
    """Where an optimizer's state goes without the scaler's; `planned` says whether the others get it."""
    events = [e for s in scope.statements() for e in s.events if e.kind in STATES]
    held = {(e.kind, e.text) for e in events if e.text and (e.done or (planned and e.form))}
    for event in events:
        if event.done or (planned and event.form):
            continue
        if any(event.kind is kind and (event.text + "[").startswith((text + "[", text + ".")) for kind, text in held):
            continue  # another statement puts it into the same checkpoint
        what = "saved" if event.kind is Kind.SAVE else "loaded"
        why = ", as the keys of a checkpoint are gone through here" if keyed and event.form else ""
        yield Note("AMP194", event.line, event.column, f"{what} without the scaler's{why}")


def _is_last(stmt: Stmt, event: Event, places: Places) -> bool:
    """Whether no later statement of the block saves to, or loads from, the same checkpoint, the scaler's own included."""
    place = places[stmt.number]
    later = [e for s in place.block[place.position + 1 :] for e in s.events if e.form or e.done]
    return not any(e.kind is event.kind and e.text == event.text for e in later)
