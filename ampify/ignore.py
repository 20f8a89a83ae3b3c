"""What a .gitignore says of a file or directory, as git reads it (gitignore(5), and wildmatch.c for the patterns)."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

_POSIX_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb"\s",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}


class Rule(NamedTuple):
    """One line: what a path below the file's directory looks like, and whether that ignores it or brings it back."""

    regex: re.Pattern[bytes]
    ignores: bool
    directories_only: bool


def parse(data: bytes) -> tuple[Rule, ...]:
    """The rules of a .gitignore, the last one first: that one decides. Lines that mean nothing are left out."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return tuple(rule for line in reversed(lines) if (rule := _rule(line.removesuffix(b"\r"))))


def decide(rules: tuple[Rule, ...], path: str, is_directory: bool) -> bool | None:
    """Whether the path (relative to the .gitignore, with slashes) is ignored; None if no rule is about it.

    Asked from the top down: what is in an ignored directory cannot be brought back, and nobody should ask about it.
    """
    name = os.fsencode(path)
    for rule in rules:
        if (is_directory or not rule.directories_only) and rule.regex.fullmatch(name):
            return rule.ignores
    return None


def _rule(line: bytes) -> Rule | None:
    if line.startswith(b"#"):
        return None
    pattern = re.sub(rb"(?<!\\) +$", b"", line)
    negated = pattern.startswith(b"!")
    pattern = pattern[negated:]
    directories_only = pattern.endswith(b"/")
    pattern = pattern.removesuffix(b"/")
    # A slash at the beginning or in the middle ties the pattern to the directory of the .gitignore.
    anywhere = b"/" not in pattern
    pattern = pattern.removeprefix(b"/")
    if not pattern:
        return None
    try:
        regex = b"".join(_translate(b"**/" + pattern if anywhere else pattern))
    except ValueError:
        return None
    return Rule(re.compile(regex, re.DOTALL), not negated, directories_only)


def _translate(pattern: bytes) -> Iterator[bytes]:
    """A pattern as pieces of a regular expression. Bytes, because to git a `?` is one of them. Raises ValueError."""
    # git compares what is before the first special character by itself, and takes the rest for a new beginning.
    literal = len(re.split(rb"[*?[\\]", pattern, maxsplit=1)[0])
    at = 0
    while at < len(pattern):
        character = pattern[at : at + 1]
        starts = at in (0, literal) or pattern[at - 1 : at] == b"/"
        stars = len(pattern) - at - len(pattern[at:].lstrip(b"*"))
        if starts and stars > 1 and pattern[at + stars : at + stars + 1] in (b"/", b""):
            closed = at + stars < len(pattern)
            yield rb"(?:.*/)?" if closed else rb".*"
            at += stars + closed
        elif character == b"[":
            end, piece = _bracket(pattern, at + 1)
            yield piece
            at = end
        elif character == b"\\":
            if at + 1 == len(pattern):
                raise ValueError("a backslash with nothing after it")
            yield re.escape(pattern[at + 1 : at + 2])
            at += 2
        else:
            yield {b"*": rb"[^/]*", b"?": rb"[^/]"}.get(character) or re.escape(character)
            at += 1


def _bracket(pattern: bytes, at: int) -> tuple[int, bytes]:
    """A bracket expression from behind its `[`: where it ends, and as a regular expression. Raises ValueError."""
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    members = b""
    first = True
    while first or pattern[at : at + 1] != b"]":
        first = False
        if named := re.compile(rb"\[:(\w*):\]").match(pattern, at):
            if named[1] not in _POSIX_CLASSES:
                raise ValueError("no such class")
            members += _POSIX_CLASSES[named[1]]
            at = named.end()
            continue
        low, at = _member(pattern, at)
        if pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in (b"]", b""):
            high, at = _member(pattern, at + 1)
            if low <= high:
                members += re.escape(low) + b"-" + re.escape(high)
        else:
            members += re.escape(low)
    # A bracket never matches a slash; one that can match nothing is kept as that.
    inside = rb"[^%b]" % members if negated and members else rb"[%b]" % members if members else rb"[^/]" * negated
    return at + 1, rb"(?:(?!/)%b)" % (inside or rb"(?!)")


def _member(pattern: bytes, at: int) -> tuple[bytes, int]:
    """One character of a bracket expression, a backslash taken off, and what is behind it. Raises ValueError."""
    at += pattern[at : at + 1] == b"\\"
    if at >= len(pattern):
        raise ValueError("a bracket that is not closed")
    return pattern[at : at + 1], at + 1
