"""[tool.ampify]: which pyproject.toml holds for a call, and what it says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from ampify import files
from ampify.files import FileError

if TYPE_CHECKING:
    from ampify.convert import Options
    from ampify.ignore import Selection
    from ampify.settings import Settings

NAME = "pyproject.toml"
# A look at the bytes: whoever has no such table does not wait for tomllib.
TABLE = rb"(?m)^(?:\xef\xbb\xbf)?[ \t]*\[+[ \t]*tool[ \t]*\.[ \t]*[\"']?ampify\b"
AT_LINE = r" \(at (?:line (\d+), column (\d+)|end of document)\)$"

Dtype = Literal["fp16", "bf16"]
Runtime = Literal["import", "vendor", "torch"]


class ConfigError(Exception):
    """A configuration that is not one; one line for people, with the file and the key or line."""


class UnknownRuleError(Exception):
    """A code on the command line that is no rule's; one line for people."""


class Config(NamedTuple):
    """What a [tool.ampify] says; None: nothing. `path` is the file as users know it, or empty.

    `include` and `exclude` are patterns as in a .gitignore, relative to the directory of the file.
    """

    path: str = ""
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    dtype: Dtype | None = None
    runtime: Runtime | None = None
    only: tuple[str, ...] | None = None
    skip: tuple[str, ...] | None = None
    unsafe: bool | None = None
    per_file: tuple[tuple[str, Config], ...] = ()  # by patterns, what files have of their own

    def selection(self) -> Selection | None:
        """Which files of directories it takes; None: all."""
        if self.include is None and not self.exclude:
            return None
        from ampify import ignore

        return ignore.select(os.path.dirname(files.identity(self.path)), self.include, self.exclude or ())


CHOICES: dict[str, tuple[str, ...]] = {"dtype": get_args(Dtype), "runtime": get_args(Runtime)}
CODES = ("only", "skip")
PATTERNS = ("include", "exclude")
PER_FILE = "per-file"
KEYS = tuple(field.replace("_", "-") for field in Config._fields[1:])
OWN_KEYS = (*CHOICES, *CODES, "unsafe")  # that files may have


class Given(NamedTuple):
    """What the command line says; it holds for all files."""

    dtype: Dtype | None = None
    runtime: Runtime | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    unsafe: bool | None = None


def for_call(first: str, named: str | None, isolated: bool) -> Config:
    """The configuration that holds for a call: of the file that is named, else the one nearest above its first path.

    An empty Config if it is to be `isolated`. Raises ConfigError, also for rules that there are not.
    """
    found = Config() if isolated else load(named) if named is not None else find(first)
    for each in (found, *(own for _, own in found.per_file)):
        if each.only or each.skip:
            check_codes(each, codes())
    return found


def options(configured: Config, given: Given, timings: bool) -> Options | Settings:
    """What the command line says, and what the configuration says where it says nothing. Raises UnknownRuleError."""
    if not configured.per_file:
        return combined(configured, given)._replace(timings=timings)
    combined(configured, given)  # for what is wrong in it
    from ampify.settings import Settings  # few projects: start-up is measured

    return Settings(configured, given, timings)


def combined(configured: Config, given: Given) -> Options:
    """The options that both come to. Raises UnknownRuleError."""
    from ampify.convert import Options

    return Options(
        given.dtype or configured.dtype,
        given.runtime or configured.runtime or "import",
        _skipped(given.only or configured.only or (), given.skip or configured.skip or ()),
        bool(configured.unsafe if given.unsafe is None else given.unsafe),
    )


def _skipped(only: Sequence[str], skip: Sequence[str]) -> frozenset[str]:
    """The codes that are left out; `only` chooses among those of its own kind, rules for hazards or findings."""
    if not only and not skip:
        return frozenset()
    known = codes()
    for code in (*only, *skip):
        if code not in known:
            raise UnknownRuleError(f"{code} is none of the rules that can be chosen: {', '.join(sorted(known))}")
    kinds = {code[:4] for code in only}
    return frozenset(code for code in known.difference(only) if code[:4] in kinds).union(skip)


def codes() -> frozenset[str]:
    """The codes that can be chosen: of the rules for hazards, and of what is done about an author's own mixed precision."""
    from ampify.doctor.pages import PAGES
    from ampify.migration.pages import PAGES as MIGRATIONS
    from ampify.plan.rules import RULES

    return frozenset({rule.code for rule in RULES} | PAGES.keys() | MIGRATIONS.keys())


def find(path: str) -> Config:
    """The configuration nearest above a path: of the first pyproject.toml that has the table, from the path's directory upwards.

    An empty Config if there is none. Raises ConfigError.
    """
    here = os.path.abspath(path)
    if not files.is_directory(here):
        here = os.path.dirname(here)
    here = files.identity(here)
    while True:
        found = os.path.join(here, NAME)
        data = files.read_optional(found)
        if data is not None and re.search(TABLE, data):
            return _read(_shown(found), data)
        parent = os.path.dirname(here)
        if parent == here:
            return Config()
        here = parent


def load(path: str) -> Config:
    """The configuration of a file that the user named. Raises ConfigError, also if it has no [tool.ampify]."""
    try:
        data = files.read(path).data
    except FileError as problem:
        raise ConfigError(f"{path}: {problem.message}") from problem
    if not re.search(TABLE, data):
        raise ConfigError(f"{path}: it has no [tool.ampify]")
    return _read(path, data)


def check_codes(config: Config, known: Iterable[str]) -> None:
    """Raises ConfigError for a code in `only` or `skip` that is none of those that are known."""
    rules = sorted(known)
    for key in CODES:
        for code in getattr(config, key) or ():
            if code not in rules:
                raise _wrong(config.path, key, f"{_quoted(code)} is none of the rules that can be chosen", code, rules)


def _read(path: str, data: bytes) -> Config:
    table = dict(_table(path, data))
    per_file = table.pop(PER_FILE, {})
    if not isinstance(per_file, dict):
        raise _wrong(path, PER_FILE, f"it has to be a table of patterns, not {_kind(per_file)}")
    own = tuple((pattern, _own(path, pattern, keys)) for pattern, keys in per_file.items())
    return _config(path, "[tool.ampify]", table, KEYS)._replace(per_file=own)


def _own(path: str, pattern: str, table: object) -> Config:
    """What the files have that match a pattern."""
    if not _is_pattern(pattern):
        raise _wrong(path, PER_FILE, f"{_quoted(pattern)} is no pattern as in a .gitignore")
    if not isinstance(table, dict):
        raise _wrong(path, PER_FILE, f'{_quoted(pattern)} has to be a table, such as {{ dtype = "bf16" }}, not {_kind(table)}')
    return _config(path, f"[tool.ampify.{PER_FILE}.{_quoted(pattern)}]", table, OWN_KEYS)


def _config(path: str, name: str, table: Mapping[str, Any], keys: Sequence[str]) -> Config:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{path}: {name} has no key {_quoted(key)}{_suggestion(key, keys)}")
    return Config(path, **{key: _value(path, name, key, value) for key, value in table.items()})


def _table(path: str, data: bytes) -> Mapping[str, Any]:
    import tomllib

    try:
        tool = tomllib.loads(data.decode("utf-8-sig")).get("tool", {})
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: it is not UTF-8, as TOML has to be") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(AT_LINE, str(error))
        line = int(place[1]) if place and place[1] else len(data.splitlines())
        raise ConfigError(f"{path}:{line}: it is not valid TOML: {re.sub(AT_LINE, '', str(error))}") from None
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deeply") from None
    table = tool.get("ampify", {}) if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.ampify has to be a table, [tool.ampify]")
    return table


def _value(path: str, table: str, key: str, value: object) -> Any:
    """The value as Config has it. Raises ConfigError if it is of the wrong type, or none of those to choose from."""
    if key == "unsafe":
        if not isinstance(value, bool):
            raise _wrong(path, key, f"it has to be true or false, not {_kind(value)}", table=table)
        return value
    if key in CHOICES:
        choices = " or ".join(map(_quoted, CHOICES[key]))
        if not isinstance(value, str):
            raise _wrong(path, key, f"it has to be {choices}, not {_kind(value)}", table=table)
        if value not in CHOICES[key]:
            raise _wrong(path, key, f"it has to be {choices}, not {_quoted(value)}", value, CHOICES[key], table=table)
        return value
    if not isinstance(value, list):
        raise _wrong(path, key, f"it has to be a list of strings, not {_kind(value)}", table=table)
    for item in value:
        if not isinstance(item, str):
            raise _wrong(path, key, f"it has to be a list of strings, and there is {_kind(item)} in it", table=table)
        if key in PATTERNS and not _is_pattern(item):
            raise _wrong(path, key, f"{_quoted(item)} is no pattern as in a .gitignore", table=table)
    return tuple(value)


def _is_pattern(text: str) -> bool:
    from ampify import ignore

    return ignore.is_pattern(text)


def _wrong(
    path: str, key: str, what: str, given: str = "", choices: Iterable[str] = (), table: str = "[tool.ampify]"
) -> ConfigError:
    return ConfigError(f"{path}: {key} of {table}: {what}{_suggestion(given, choices)}")


def _suggestion(given: str, choices: Iterable[str]) -> str:
    """The likeliest of the choices, as a question; else all of them."""
    import difflib  # only for a mistake: start-up is measured

    listed = list(choices)
    close = difflib.get_close_matches(given.lower(), [c.lower() for c in listed], 1)
    near = next((c for c in listed if close and c.lower() == close[0]), None)
    if near is not None:
        return f"; did you mean {_quoted(near)}?"
    return f"; there are {', '.join(listed)}" if len(listed) > len(CHOICES["runtime"]) else ""


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")


def _quoted(text: str) -> str:
    return f'"{text}"'


def _shown(path: str) -> str:
    """A path that was found: relative where that is shorter to read."""
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive; a current directory that is gone
        return path
    return relative if len(relative) < len(path) else path
