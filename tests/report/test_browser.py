"""The page of report.html in a real browser: keys, links, themes, narrow windows, and that hostile files stay text.

Where AMPIFY_PICTURES names a directory, pictures of the page are left there to be looked at.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ampify.convert import AppliedEdit, Result, convert
from ampify.diagnostics import Diagnostic
from ampify.job import Outcome
from ampify.report import html
from tests.report.browser import Browser

pytestmark = pytest.mark.browser

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCRIPTS = {
    "src/train.py": "readme/train",
    "src/models/attention.py": "hazards/mask_constants",
    "src/second_order.py": "refused/backward_create_graph",
    "src/trainer.py": "misuse/class_trainer_clips_scaled_gradients",
    "legacy/region.py": "misuse/region_round_the_loop",
    "tools/plot.py": "noop/no_training",
}
TOP = "arguments[0].getBoundingClientRect().top"


def _outcomes() -> Iterator[Outcome]:
    for path, case in SCRIPTS.items():
        file = FIXTURES / f"{case}.in.py"
        source = file.read_bytes() if file.exists() else b"print('no training here')\n"
        yield Outcome(path, source, convert(source))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(b"".join(html.render(_outcomes(), done=False)))
    return path


@pytest.fixture(scope="module")
def wide() -> Iterator[Browser]:
    with Browser(1400, 900) as browser:
        yield browser


def _focused(browser: Browser) -> str:
    return str(browser.run("return document.activeElement.closest('.say, summary, article, body').textContent"))


def _in_sight(browser: Browser) -> bool:
    """Whether the element with the focus can be seen below the bar at the top."""
    script = "const r = document.activeElement.getBoundingClientRect(); return [r.top, r.bottom, innerHeight]"
    upper, lower, height = browser.run(script)
    return bool(upper >= 40 and lower <= height)


def test_keys_go_from_edit_to_edit_and_back(wide: Browser, page: Path) -> None:
    wide.open(page)
    total = wide.run("return document.querySelectorAll('.say').length")
    assert wide.run("return document.querySelector('.position').textContent") == f"{total} to look at"
    for number, key in enumerate("jnjj", 1):
        wide.press(key)
        assert wide.run("return document.querySelector('.position').textContent") == f"{number} of {total}"
        assert _in_sight(wide)
    wide.press("k", "p")
    assert wide.run("return document.querySelector('.position').textContent") == f"2 of {total}"
    wide.press(*"kkkk")
    assert wide.run("return document.querySelector('.position').textContent") == f"1 of {total}", "there it ends"
    seen = []
    for _ in range(total):
        seen.append(_focused(wide))
        wide.press("j")
        assert _in_sight(wide)
    assert seen == wide.run("return [...document.querySelectorAll('.say')].map(e => e.textContent)")
    assert wide.said() == []


def test_keys_go_from_file_to_file(wide: Browser, page: Path) -> None:
    wide.open(page)
    paths = wide.run("return [...document.querySelectorAll('.file h2')].map(e => e.textContent)")
    seen = []
    for _ in paths:
        wide.press("f")
        seen.append(wide.run("return document.activeElement.querySelector('h2').textContent"))
        assert wide.run(f"return {TOP}", wide.run("return document.activeElement")) >= 40
    assert seen == paths
    wide.press("F", "F")
    assert wide.run("return document.activeElement.querySelector('h2').textContent") == paths[-3]


def test_a_closed_file_opens_for_what_is_in_it(wide: Browser, page: Path) -> None:
    wide.open(page)
    wide.press("f", "o")
    assert not wide.run("return document.querySelector('.file details').open")
    wide.press("j")
    assert wide.run("return document.querySelector('.file details').open")
    assert _in_sight(wide)


def test_from_an_edit_to_its_page_and_back(wide: Browser, page: Path) -> None:
    wide.open(page)
    wide.press("j", "j")
    code = wide.run("return document.activeElement.querySelector('a').textContent")
    where = _focused(wide)
    wide.press("\ue007")
    assert wide.run("return document.querySelector('article:target').id") == code
    assert _focused(wide).startswith(code)
    assert _in_sight(wide)
    wide.press("b")
    assert _focused(wide) == where


def test_gaps_open(wide: Browser, page: Path) -> None:
    wide.open(page)
    while wide.run("const more = document.querySelector('button.more'); if (more) more.click(); return !!more"):
        pass
    cells = "[...document.querySelectorAll('#{} tbody tr')].map(r => [...r.querySelectorAll('td:not(.ln):not([colspan])')])"
    colours = "[...document.querySelectorAll('#{} td.ins span, #{} td:not(.ins) > span')].length"
    for number, outcome in enumerate((o for o in _outcomes() if o.result.edits or o.result.diagnostics), 1):
        code = wide.run(f"return {cells.format(f'file-{number}')}.map(r => r.map(c => c.textContent))")
        before = [row[0] for row in code if row]
        after = [row[-1] for row in code if row]
        lines = outcome.before.decode().splitlines()
        assert [line for line in before if line] == [line for line in lines if line]
        assert [line for line in after if line] == [line for line in outcome.result.output.decode().splitlines() if line]
        numbers = wide.run(f"return [...document.querySelectorAll('#file-{number} tr td.ln:first-child')].map(e => e.dataset.n)")
        assert [int(n) for n in numbers if n] == [*range(1, len(lines) + 1)]
        assert wide.run(f"return {colours.format(f'file-{number}', f'file-{number}')}") > 10
    assert wide.said() == []


def test_a_number_leads_to_the_first_of_its_kind(wide: Browser, page: Path) -> None:
    wide.open(page)
    wide.run("document.querySelectorAll('.file details').forEach((d) => { d.open = false; })")
    for kind, code in (("finding", "AMP902"), ("edit", "AMP104")):
        wide.run(f"document.querySelector('.count a[href=\"#{kind}-{code}\"]').click()")
        wide.run("return new Promise((done) => setTimeout(done, 200))")
        assert wide.run("return document.activeElement.id") == f"{kind}-{code}"
        assert _in_sight(wide)


def test_help_shows_the_keys_that_there_are(wide: Browser, page: Path) -> None:
    wide.open(page)
    wide.press("?")
    assert wide.run("return document.getElementById('help').open")
    wide.press("j")
    assert _focused(wide) != "j"
    assert wide.run("return document.getElementById('help').contains(document.activeElement)")
    wide.press("\ue00c")
    assert not wide.run("return document.getElementById('help').open")


def _background(browser: Browser) -> Any:
    return browser.run("return getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark(page: Path, dark: bool) -> None:
    with Browser(1400, 900, dark) as browser:
        browser.open(page)
        first = _background(browser)
        assert (sum(map(int, first[4:-1].split(","))) < 200) == dark
        browser.press("t")
        second = _background(browser)
        assert second != first
        browser.open(page)
        assert _background(browser) == second, "it is remembered"
        browser.press("t")
        assert _background(browser) == first


# What of the page has too little contrast with what is behind it: WCAG 2.2, 1.4.3, for text of any size.
CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = (c) => c.slice(0, 3).map((v, i) => linear(v / 255) * [0.2126, 0.7152, 0.0722][i]).reduce((a, b) => a + b);
const behind = (e) => {
  const colour = rgb(getComputedStyle(e).backgroundColor);
  return colour[3] === 255 ? colour : behind(e.parentElement);
};
const low = new Set();
for (const e of document.querySelectorAll('main *, .side *, .top *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
  const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.add(`${e.tagName}.${e.className} in ${e.parentElement.className}: ${ratio.toFixed(2)}`);
}
return [...low];
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 420])
def test_what_it_looks_like(page: Path, width: int, dark: bool) -> None:
    with Browser(width, 900, dark) as browser:
        browser.open(page)
        assert browser.run("return document.documentElement.scrollWidth") == width, "nothing runs out to the right"
        assert browser.run(CONTRASTS) == []
        columns = browser.run("return getComputedStyle(document.querySelector('.code tr.changed')).display")
        assert (columns == "grid") == (width == 420)
        if folder := os.environ.get("AMPIFY_PICTURES"):
            browser.picture(Path(folder) / f"{width}-{'dark' if dark else 'light'}.png")
            browser.press("f", "f")
            browser.run("return new Promise((done) => setTimeout(done, 200))")
            browser.picture(Path(folder) / f"{width}-{'dark' if dark else 'light'}-file.png")
        assert browser.said() == []


def test_on_a_narrow_page_all_lines_are_there(page: Path) -> None:
    with Browser(420, 900) as browser:
        browser.open(page)
        seen = browser.run(
            "return [...document.querySelectorAll('.code td')].filter(e => e.getClientRects().length).map(e => e.innerText)"
        )
    for line in (
        "    loss.backward()",
        "    scaler.scale(loss).backward()",
        "    scaler.update()",
        "for images, target in loader:",
    ):
        assert any(line.strip() == cell.strip() for cell in seen), line


def test_nothing_hostile_runs(tmp_path: Path) -> None:
    text = "</script><img src=x onerror='document.title=1'><script>document.title=2</script>\" onclick=\"document.title=3"
    source = f"a = 1\n# {text}\n".encode()
    said = Diagnostic("AMP905", "error", 2, 1, text, text)
    result = Result("converted", source + b"b = 2\n", (AppliedEdit("AMP101", 2, 2, text),), (said,))
    (tmp_path / "hostile.html").write_bytes(b"".join(html.render([Outcome(f"{text}.py", source, result)], done=False)))
    with Browser() as browser:
        browser.open(tmp_path / "hostile.html")
        assert browser.run("return document.title") == "ampify: 1 of 1 file would be converted"
        assert browser.run("return document.images.length + document.scripts.length") == 1
        browser.press("j", "f", "t")
        browser.run("document.querySelectorAll('*').forEach((e) => e.matches('a, button, summary, svg *, svg') || e.click())")
        assert browser.run("return document.title") == "ampify: 1 of 1 file would be converted"
        assert browser.said() == []


def test_many_files_stay_usable(tmp_path: Path) -> None:
    source = (FIXTURES / "readme/train.in.py").read_bytes()
    result = convert(source)
    path = tmp_path / "many.html"
    path.write_bytes(b"".join(html.render([Outcome(f"src/{n}/train.py", source, result) for n in range(200)], done=False)))
    with Browser() as browser:
        started = time.monotonic()
        browser.open(path)
        assert time.monotonic() - started < 30
        browser.press("f")
        started = time.monotonic()
        for _ in range(20):
            browser.press("j")
            assert _in_sight(browser)
        assert time.monotonic() - started < 30
        browser.run("document.querySelector('#file-180').scrollIntoView()")
        browser.run("return new Promise((done) => setTimeout(done, 300))")
        browser.press("f")
        assert browser.run("return document.activeElement.closest('.file').id") in ("file-180", "file-181")


def test_it_is_read_without_scripts_too(page: Path) -> None:
    with Browser() as browser:
        browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(page)
        nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
        names = {node.get("name", {}).get("value") for node in nodes if not node.get("ignored")}
        assert any(re.match("src/.?train.py would convert", name) for name in names if name)
        assert not any(name and name.startswith("Previous edit") for name in names), "what would do nothing is not there"
