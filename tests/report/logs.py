"""What reads the reports for programs: schemas, and a program that applies the fixes of a SARIF log."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema

SCHEMAS = Path(__file__).parent / "schemas"


def check(document: Any, schema: Path) -> None:
    """Raises jsonschema.ValidationError if a document is not what a schema says, formats included."""
    loaded = json.loads(schema.read_bytes())
    kind = jsonschema.validators.validator_for(loaded)
    kind.check_schema(loaded)
    kind(loaded, format_checker=kind.FORMAT_CHECKER).validate(document)


def results(log: Any) -> list[Any]:
    return list(log["runs"][0]["results"])


def fixes(log: Any) -> Iterator[Any]:
    for result in results(log):
        yield from result.get("fixes", ())


def place(location: Any, root: Path) -> Path:
    """The file of an artifact location."""
    uri = location["uri"]
    if uri.startswith("file://"):
        return Path(unquote_to_bytes(uri.removeprefix("file://")).decode("utf-8", "surrogateescape"))
    assert location["uriBaseId"] == "%SRCROOT%"
    return root / unquote_to_bytes(uri).decode("utf-8", "surrogateescape")


def apply(log: Any, root: Path) -> None:
    """Writes all fixes of a log, from the log alone."""
    encodings = {json.dumps(a["location"]): a["encoding"] for a in log["runs"][0]["artifacts"]}
    ends = "|".join(map(re.escape, log["runs"][0]["newlineSequences"]))
    for fix in fixes(log):
        for change in fix["artifactChanges"]:
            path = place(change["artifactLocation"], root)
            encoding = encodings.get(json.dumps(change["artifactLocation"]), "utf-8")
            data = path.read_bytes() if path.exists() else b""
            mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
            text = data.removeprefix(mark).decode(encoding)
            starts = [0, *(found.end() for found in re.finditer(ends, text))]
            for replacement in reversed(change["replacements"]):
                region = replacement["deletedRegion"]
                first = starts[region["startLine"] - 1] + region["startColumn"] - 1
                last = starts[region["endLine"] - 1] + region["endColumn"] - 1
                text = text[:first] + replacement.get("insertedContent", {"text": ""})["text"] + text[last:]
            path.write_bytes(mark + text.encode(encoding))
