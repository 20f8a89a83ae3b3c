"""Checkpoints: the scaler's state beside the optimizer's, where that is saved and where it is loaded.

Source: the torch.amp.GradScaler reference ("state_dict", "load_state_dict"): a run that resumes without it starts at the initial
scale. Loading is written so that a checkpoint from before the conversion, without the key, still loads.
"""

from __future__ import annotations

from ampify.plan.edits import Edit, Insert, Rewrite
from ampify.plan.places import Places
from ampify.program import Event, Kind, Scope, Stmt


def plan_checkpoints(scope: Scope, places: Places, key: str) -> list[Edit]:
    """The edits of one scope; `key` is the scaler's in the checkpoint."""
    edits: list[Edit] = []
    for stmt in scope.statements():
        for event in stmt.events:
            if event.kind is Kind.SAVE and not event.done:
                if not event.text:
                    edits.append(Rewrite(stmt.number, "state_dict", event.call, "beside", "AMP111", key))
                elif _is_last(stmt, event, places):
                    edits.append(Insert(stmt.number, True, f"{event.text}[{key!r}] = {{scaler}}.state_dict()", "AMP111"))
            elif event.kind is Kind.LOAD and not event.done and _is_last(stmt, event, places):
                text = f"{{scaler}}.load_state_dict({event.text}.get({key!r}, {{{{}}}}))"
                edits.append(Insert(stmt.number, True, text, "AMP112"))
    return edits


def _is_last(stmt: Stmt, event: Event, places: Places) -> bool:
    """Whether no later statement of the block saves to, or loads from, the same checkpoint, the scaler's own included."""
    place = places[stmt.number]
    later = [e for s in place.block[place.position + 1 :] for e in s.events]
    return not any(e.kind is event.kind and e.text == event.text for e in later)
