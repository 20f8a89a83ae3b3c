"""SARIF 2.1.0, for code scanning and editors: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html"""

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, quote_from_bytes

from ampify import files
from ampify.diagnostics import Diagnostic, Severity
from ampify.graph import connected
from ampify.job import Outcome
from ampify.report import paths
from ampify.report.rules import FAILURES, describe
from ampify.report.sources import Text, decoded, original

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "%SRCROOT%"  # what GitHub and others call the directory that relative places start from
LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}

Json = dict[str, Any]


def render(outcomes: Iterable[Outcome], *, done: bool) -> Iterator[bytes]:
    """The log of a run, in ASCII. With `done` the files are written: their edits are information then, and no fixes are left."""
    run = _Run(done)
    finished = list(outcomes)
    for outcome in finished:
        run.add(outcome)
    if not done:
        run.propose(finished)
    yield (json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run.log()]}, indent=2) + "\n").encode("ascii")


class _Run:
    def __init__(self, done: bool) -> None:
        self._done = done
        self._rules: dict[str, int] = {}
        self._artifacts: list[Json] = []
        self._results: list[Json] = []
        self._first: dict[str, Json] = {}  # the first edit of each file, by its path
        self._sound = True

    def add(self, outcome: Outcome) -> None:
        """The results of one file."""
        result = outcome.result
        self._sound = self._sound and not result.bug
        if not result.edits and not result.diagnostics:
            return
        text = decoded(original(outcome))
        place = {**_location(outcome.path), "index": len(self._artifacts)}
        self._artifacts.append({"location": _location(outcome.path), "encoding": text.encoding, "sourceLanguage": "python"})
        seen: dict[str, int] = {}
        for edit in result.edits:
            region = {"startLine": _within(edit.line, text), "endLine": _within(edit.end_line, text)}
            found = self._result(edit.code, "note", edit.message, place, region, text, seen)
            if self._done:
                found |= {"level": "none", "kind": "informational"}
            self._first.setdefault(outcome.path, found)
        for told in result.diagnostics:
            message = f"{told.message}\n{told.help}" if told.help else told.message
            line = _within(told.line, text)
            region = {"startLine": line}
            if line == told.line and (column := _column(told, text)):
                region["startColumn"] = column
            self._result(told.code, LEVELS[told.severity], message, place, region, text, seen)

    def _result(
        self, code: str, level: str, message: str, place: Json, region: Json, text: Text, seen: dict[str, int]
    ) -> dict[str, Any]:
        line = text.lines[region["startLine"] - 1].strip() if text.lines else ""
        same = f"{code} {line}"
        seen[same] = seen.get(same, 0) + 1
        mark = hashlib.sha256(f"{same} {seen[same]}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        result = {
            "ruleId": code,
            "ruleIndex": self._rules.setdefault(code, len(self._rules)),
            "level": level,
            "message": {"text": _unlinked(message)},
            "locations": [{"physicalLocation": {"artifactLocation": place, "region": region}}],
            "partialFingerprints": {"codeAndLine/v1": mark},
        }
        self._results.append(result)
        return result

    def propose(self, outcomes: Sequence[Outcome]) -> None:
        """The fixes. Half a conversion trains wrongly: one fix is all edits of all files that need each other, and stands once,
        at the first edit of these."""
        for group in _groups(outcomes):
            names = ", ".join(paths.relative(outcome.path) for outcome in group)
            changes = [change for outcome in group for change in _changes(outcome)]
            description = f"converts {names}; its edits belong together"
            self._first[group[0].path]["fixes"] = [{"description": {"text": description}, "artifactChanges": changes}]

    def log(self) -> Json:
        """The run, as SARIF has it."""
        number = version("ampify")
        driver = {"name": "ampify", "version": number, "semanticVersion": number, "rules": [_rule(c) for c in self._rules]}
        return {
            "tool": {"driver": driver},
            "invocations": [{"executionSuccessful": self._sound}],
            "originalUriBaseIds": {ROOT: {"description": {"text": "The directory that ampify was run in."}}},
            "columnKind": "unicodeCodePoints",
            "newlineSequences": ["\r\n", "\n", "\r"],
            "artifacts": self._artifacts,
            "results": self._results,
        }


def _rule(code: str) -> Json:
    described = describe(code)
    rule: Json = {"id": code, "shortDescription": {"text": _sentence(described.short)}}
    if described.name:
        rule["name"] = "".join(part.capitalize() for part in described.name.replace("_", "-").split("-"))
    if described.page:
        _, _, text = described.page.partition("\n\n")
        rule["fullDescription"] = {"text": " ".join(text.partition("\n\n")[0].split())}
        rule["help"] = {"text": text, "markdown": text}
    return rule


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _unlinked(message: str) -> str:
    """A message in which brackets that stand like a link's are none."""
    return message.replace("[", "\\[").replace("]", "\\]") if "](" in message else message


def _location(path: str) -> Json:
    inside = paths.below(path)
    if inside is not None:
        return {"uri": quote_from_bytes(os.fsencode(inside)), "uriBaseId": ROOT}
    absolute = os.path.abspath(path).replace(os.sep, "/")
    return {"uri": "file://" + quote(os.fsencode(absolute if absolute.startswith("/") else f"/{absolute}"))}


def _within(line: int, text: Text) -> int:
    """A line that there is: what is inserted behind the last one is at that."""
    return max(1, min(line, len(text.lines)))


def _column(told: Diagnostic, text: Text) -> int:
    """The column of a diagnostic in characters: syntax trees count bytes of UTF-8. Errors of the parser count either; 0 where
    that makes a difference."""
    line = text.lines[told.line - 1] if text.lines else ""
    if line.isascii():
        return told.column
    if told.code in FAILURES:
        return 0
    return len(line.encode("utf-8", "surrogatepass")[: told.column - 1].decode("utf-8", "ignore")) + 1


# fixes ----------------------------------------------------------------------------------------------------


def _groups(outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
    """The converted files that need each other, in the order of the report."""
    converted = {files.identity(outcome.path): outcome for outcome in outcomes if outcome.result.status == "converted"}
    linked: dict[str, list[str]] = {path: [] for path in converted}
    for path, outcome in converted.items():
        for need in (need for need in outcome.result.needs if need.path in converted):
            linked[path].append(need.path)
            linked[need.path].append(path)
    for group in connected(linked):
        yield [outcome for each, outcome in converted.items() if each in group]


def _changes(outcome: Outcome) -> Iterator[Json]:
    """What a fix does to a file, and to the runtime beside it."""
    yield {
        "artifactLocation": _location(outcome.path),
        "replacements": list(_replacements(decoded(outcome.before), decoded(outcome.result.output))),
    }
    if outcome.copy is not None:
        old = outcome.copy.before.data if outcome.copy.before is not None else b""
        yield {
            "artifactLocation": _location(outcome.copy.path),
            "replacements": list(_replacements(decoded(old), decoded(outcome.copy.data))),
        }


def _replacements(before: Text, after: Text) -> Iterator[Json]:
    """Whole lines in the place of others; all places are of the original."""
    for kind, i, j, k, m in difflib.SequenceMatcher(None, before.lines, after.lines).get_opcodes():
        if kind != "equal":
            line, column = _end(before.lines, j)
            start, at = _end(before.lines, i)
            region = {"startLine": start, "startColumn": at, "endLine": line, "endColumn": column}
            yield {"deletedRegion": region, "insertedContent": {"text": "".join(after.lines[k:m])}}


def _end(lines: Sequence[str], count: int) -> tuple[int, int]:
    """The line and column behind the first `count` lines."""
    if count and not lines[count - 1].endswith(("\n", "\r")):
        return count, len(lines[count - 1]) + 1
    return count + 1, 1
