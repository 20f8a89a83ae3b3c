"""examine(tree) -> findings: all that is wrong in the mixed precision that a file has already."""

from __future__ import annotations

import ast

from ampify.doctor import (
    bindings,
    costs,
    devices,
    elsewhere,
    flow,
    graphs,
    hazards,
    lifetime,
    loading,
    purpose,
    regions,
    switches,
    values,
)
from ampify.doctor.base import Finding
from ampify.doctor.case import Case

FAMILIES = (flow, values, lifetime, elsewhere, loading, switches, bindings, graphs, costs, purpose, regions, devices, hazards)


def examine(tree: ast.Module, path: str = "") -> list[Finding]:
    """The findings, in the order of their lines."""
    return findings(Case(tree, path))


def findings(case: Case) -> list[Finding]:
    """The findings of a case; none where a framework has the say, or ampify's own runtime, whose scaler bears more."""
    if case.framework or case.names.runtime:
        return []
    found = {finding for family in FAMILIES for finding in family.find(case)}
    return sorted(found, key=lambda f: (f.line, f.column, f.code, f.detail))
