"""The page as a whole: a summary, the files, and the manual's pages of all codes in it, so that no link leads elsewhere."""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from ampify import files
from ampify.convert import Status
from ampify.job import Outcome
from ampify.report import text as words
from ampify.report.html import code, markup
from ampify.report.rules import describe
from ampify.report.streams import printable


class Shown(NamedTuple):
    """A file that has something to show, and its anchor."""

    anchor: str
    path: str
    status: Status
    file: code.File


def render(outcomes: Iterable[Outcome], *, done: bool) -> Iterator[bytes]:
    """The page; `done` says whether files are written."""
    finished = list(outcomes)
    shown: list[Shown] = []
    silent: list[tuple[str, Status]] = []
    known: set[str] = set()
    for outcome in finished:
        path = printable(outcome.path)
        if outcome.result.edits or outcome.result.diagnostics:
            shown.append(Shown(f"file-{len(shown) + 1}", path, outcome.result.status, code.render(outcome, known)))
        else:
            silent.append((path, outcome.result.status))
    statuses = Counter(outcome.result.status for outcome in finished)
    edits = Counter(edit.code for outcome in finished for edit in outcome.result.edits)
    findings = Counter(told.code for outcome in finished for told in outcome.result.diagnostics)
    meanings = {edit.code: edit.message for outcome in reversed(finished) for edit in reversed(outcome.result.edits)}
    tables = _codes("finding", findings, {code: describe(code).short for code in findings}) + _codes("edit", edits, meanings)
    summary = _summary(statuses, tables, done)
    for part in _parts(shown, silent, _title(statuses, done), summary, sorted({*edits, *findings}), done):
        # Lone surrogates are escaped before; whatever else there were would be no reason to show nothing.
        yield part.encode("utf-8", "backslashreplace")


def _parts(
    shown: Sequence[Shown],
    silent: Sequence[tuple[str, Status]],
    title: str,
    summary: str,
    codes: Sequence[str],
    done: bool,
) -> Iterator[str]:
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>ampify: {escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#summary">Skip to the report</a>\n'
    )
    yield _HEADER
    yield f'<div class="layout">\n{_contents(shown)}\n<main>\n'
    yield summary
    for each in shown:
        yield _section(each, done)
    if silent:
        yield _silent(silent, done)
    yield _manual(codes)
    yield f"</main>\n</div>\n{_HELP}<script>{script}</script>\n</body>\n</html>\n"


def _title(statuses: Counter[Status], done: bool) -> str:
    total, converted = statuses.total(), statuses["converted"]
    verb = ("was" if converted == 1 else "were") if done else "would be"
    return f"{converted} of {total} file{'s' * (total != 1)} {verb} converted"


def _asset(name: str) -> str:
    return files.read(os.path.join(os.path.dirname(__file__), name)).data.decode()


def _digest(content: str) -> str:
    """What the page's own policy lets run, and nothing else: by whatever means something got into the page, it is no program."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


_HEADER = """<header class="top">
<p class="brand"><a href="#summary">ampify</a></p>
<div class="tools" role="toolbar" aria-label="Navigation" hidden>
<span class="position" role="status" aria-live="polite"></span>
<button type="button" data-do="previous" aria-keyshortcuts="k p" title="Previous edit (k)">\
<span aria-hidden="true">↑</span><span class="hidden">Previous edit</span></button>
<button type="button" data-do="next" aria-keyshortcuts="j n" title="Next edit (j)">\
<span aria-hidden="true">↓</span><span class="hidden">Next edit</span></button>
<button type="button" data-do="theme" aria-keyshortcuts="t" title="Light or dark (t)">\
<span aria-hidden="true">◐</span><span class="hidden">Light or dark</span></button>
<button type="button" data-do="help" aria-keyshortcuts="?" title="Keys (?)">\
<span aria-hidden="true">?</span><span class="hidden">Keys</span></button>
</div>
</header>
"""

_KEYS = (
    (("j", "n"), "next edit or finding"),
    (("k", "p"), "previous edit or finding"),
    (("f",), "next file"),
    (("F",), "previous file"),
    (("o",), "open or close the file"),
    (("Enter",), "on an edit: its page of the manual"),
    (("b",), "back from there"),
    (("t",), "light or dark"),
    (("?",), "these keys"),
)

_ROWS = "".join(f"<dt>{' '.join(f'<kbd>{key}</kbd>' for key in keys)}</dt><dd>{what}</dd>" for keys, what in _KEYS)
_HELP = f"""<dialog id="help" aria-labelledby="help-title">
<h2 id="help-title">Keys</h2>
<dl>{_ROWS}</dl>
<form method="dialog"><button>Close</button></form>
</dialog>
"""


def _contents(shown: Sequence[Shown]) -> str:
    items = "".join(
        f'<li><a href="#{each.anchor}" title="{escape(each.path)}"><span class="dot {_look(each)}"></span>'
        f'<span class="name">{_name(each.path)}</span>'
        f'<span class="count">{each.file.edits + each.file.findings.total()}</span></a></li>'
        for each in shown
    )
    manual = '<li><a href="#manual"><span class="name">Manual</span></a></li>' if shown else ""
    return f'<nav class="side" aria-label="Files">\n<ol>{items}{manual}</ol>\n</nav>'


def _look(each: Shown) -> str:
    """How a file is coloured: by its status, but for mistakes in mixed precision of its author's."""
    return "error" if each.status == "already" and each.file.findings["error"] else each.status


def _name(path: str) -> str:
    """A path that may break at its slashes, with the last part standing out."""
    folder, slash, name = path.replace(os.sep, "/").rpartition("/")
    return f'<span class="folder">{escape(folder + slash).replace("/", "/<wbr>")}</span><wbr>{escape(name)}'


def _summary(statuses: Counter[Status], tables: str, done: bool) -> str:
    present = [(status, words.WORDS[status][0 if done else 1]) for status in words.WORDS if statuses[status]]
    tiles = "".join(f'<li class="{s}"><b>{statuses[s]}</b> <span>{what}</span></li>' for s, what in present)
    at, bars = 0, ""
    for status, _ in present:
        bars += f'<rect class="{status}" x="{at}" y="0" width="{statuses[status]}" height="1"/>'
        at += statuses[status]
    bar = f'<svg class="bar" viewBox="0 0 {max(at, 1)} 1" preserveAspectRatio="none" aria-hidden="true">{bars}</svg>'
    head = '<section id="summary" tabindex="-1" aria-labelledby="title">\n'
    body = f'<ul class="tiles">{tiles}</ul>\n<div class="tables">{tables}</div>' if present else ""
    return f'{head}<h1 id="title">{escape(_title(statuses, done))}</h1>\n{bar}{body}\n</section>\n'


def _codes(kind: str, counts: Counter[str], meanings: Mapping[str, str]) -> str:
    """The codes of a kind with what they mean, and their numbers, which lead to the first of each."""
    if not counts:
        return ""
    rows = "".join(
        f'<tr><td><a class="id" href="#{code}">{code}</a></td><td>{markup.sentence(meanings[code])}</td>'
        f'<td class="count"><a href="#{kind}-{code}" title="Go to the first">{counts[code]}</a></td></tr>'
        for code in sorted(counts)
    )
    heads = f'<th scope="col" colspan="2">{kind.capitalize()}s</th><th scope="col" class="count">Times</th>'
    return f'<table class="codes"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


_BADGES: dict[Status, tuple[str, str]] = {  # done, only looked at
    "converted": ("converted", "would convert"),
    "already": ("mixed precision already", "mixed precision already"),
    "unchanged": ("unchanged", "unchanged"),
    "refused": ("refused", "refused"),
    "error": ("failed", "fails"),
}


def _section(each: Shown, done: bool) -> str:
    badge = _BADGES[each.status][0 if done else 1]
    file = each.file
    counts = {
        "edit": file.edits,
        "error": file.findings["error"],
        "warning": file.findings["warning"],
        "note": file.findings["info"],
    }
    facts = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count)
    size = f'<span class="plus">+{file.added}</span> <span class="minus">−{file.removed}</span>'  # noqa: RUF001
    title = f"{each.anchor}-title"
    return (
        f'<section class="file" id="{each.anchor}" aria-labelledby="{title}">\n<details open><summary>'
        f'<h2 id="{title}">{_name(each.path)}</h2><span class="badge {_look(each)}">{badge}</span>'
        f'<span class="facts">{facts}{f" {size}" if file.edits else ""}</span></summary>\n'
        f"{file.body}</details>\n</section>\n"
    )


def _silent(silent: Sequence[tuple[str, Status]], done: bool) -> str:
    items = "".join(
        f'<li><span class="dot {status}"></span><span class="name">{_name(path)}</span>'
        f'<span class="facts">{_BADGES[status][0 if done else 1]}</span></li>'
        for path, status in silent
    )
    count = f"{len(silent)} file{'s' * (len(silent) != 1)} with nothing to show"
    return f'<section class="silent"><details><summary><h2>{count}</h2></summary><ul>{items}</ul></details></section>\n'


def _manual(codes: Sequence[str]) -> str:
    if not codes:
        return ""
    articles = []
    for found in map(describe, codes):
        title, _, page = found.page.partition("\n\n")
        kind = title.partition("(")[2].rstrip(")")
        named = f' <span class="rule">{escape(found.name)}</span>' if found.name else ""
        tag = f' <span class="tag">{escape(kind)}</span>' if kind else ""
        body = "".join(markup.manual(page)) or f"<p>{markup.sentence(found.short)}.</p>"
        articles.append(f'<article id="{found.code}" tabindex="-1"><h3>{found.code}{named}{tag}</h3>\n{body}</article>\n')
    return (
        f'<section id="manual" aria-labelledby="manual-title"><h2 id="manual-title">Manual</h2>\n{"".join(articles)}</section>\n'
    )
