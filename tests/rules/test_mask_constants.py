"""AMP210: constants beyond float16."""

import pytest

from tests.rules.snippets import check_left_alone, check_reported, check_written, convert, lines

LEFT_ALONE = [
    'h = h.masked_fill(mask, float("-inf"))',
    "h = h.masked_fill(mask, -np.inf)",
    "h = h.masked_fill(mask, -torch.inf)",
    "h = h.masked_fill(mask, torch.finfo(h.dtype).min)",
    "h = h.masked_fill(mask, -1e4)",
    "h = h.masked_fill(mask, 0)",
    "h = h.float().masked_fill(mask, -1e9)",
    "h = h + torch.zeros(3, 4).masked_fill(mask, -1e9)",
    "w = torch.zeros(3, 4)\nw[mask] = -1e9\nh = h + w",
    "h = h + (1 - mask.float()) * -1e9",
    "h = h + (1.0 - mask) * -1e9",
    "h = h + (1.0 - mask) * -10000.0",
    "h = h + torch.full((3, 4), -1e9)",
    "h = h + torch.full_like(h, -1e9, dtype=torch.float32)",
    "h = h.masked_fill(mask, max(-1e9, torch.finfo(h.dtype).min))",
    "h = h + self.emb(torch.full_like(idx, 100000, dtype=torch.long))",
    "h = F.pad(h, (0, 70000))",
    "h = h.new_full((70000, 4), 0.0)",
    "h = h * (len(x) * 100000)",
    "outputs = {}\noutputs[idx] = 1e9",
]

LIMIT = "torch.finfo(h.dtype)"
WRITTEN = [
    ("h = h.masked_fill(mask, -1e9)", f"h = h.masked_fill(mask, max(-1e9, {LIMIT}.min))"),
    ("h = h.masked_fill(mask, value=-2 ** 32 + 1)", f"h = h.masked_fill(mask, value=max(-2 ** 32 + 1, {LIMIT}.min))"),
    ("h.masked_fill_(mask, -1e9)", f"h.masked_fill_(mask, max(-1e9, {LIMIT}.min))"),
    ('h = h.masked_fill(mask, float("-1e20"))', f'h = h.masked_fill(mask, max(float("-1e20"), {LIMIT}.min))'),
    ("h = h.masked_fill(mask, NEG_INF)", f"h = h.masked_fill(mask, max(NEG_INF, {LIMIT}.min))"),
    ("h = h.masked_fill(mask, -NEG_INF)", f"h = h.masked_fill(mask, min(-NEG_INF, {LIMIT}.max))"),
    ("h = h.masked_fill(mask, self.NEG)", f"h = h.masked_fill(mask, max(self.NEG, {LIMIT}.min))"),
    ("h = h.masked_fill(mask, Net.NEG)", f"h = h.masked_fill(mask, max(Net.NEG, {LIMIT}.min))"),
    ("h = h.masked_fill(mask, neg)", f"h = h.masked_fill(mask, max(neg, {LIMIT}.min))"),
    (
        "h = h.masked_fill(mask, torch.finfo(torch.float32).min)",
        f"h = h.masked_fill(mask, max(torch.finfo(torch.float32).min, {LIMIT}.min))",
    ),
    ("h[mask] = -1e9", f"h[mask] = max(-1e9, {LIMIT}.min)"),
    ("h = torch.where(mask, h, -1e9)", f"h = torch.where(mask, h, max(-1e9, {LIMIT}.min))"),
    ("h = torch.where(mask, -1e9, h)", f"h = torch.where(mask, max(-1e9, {LIMIT}.min), h)"),
    ("h = torch.where(mask, h, torch.tensor(-1e9))", f"h = torch.where(mask, h, torch.tensor(max(-1e9, {LIMIT}.min)))"),
    ("h = h.where(mask, -1e9)", f"h = h.where(mask, max(-1e9, {LIMIT}.min))"),
    ("h = h + torch.full_like(h, -1e9)", f"h = h + torch.full_like(h, max(-1e9, {LIMIT}.min))"),
    ("h = h + h.new_full((3, 4), -1e9)", f"h = h + h.new_full((3, 4), max(-1e9, {LIMIT}.min))"),
    ("h.fill_(1e9)", f"h.fill_(min(1e9, {LIMIT}.max))"),
    ("h = h.scatter(1, idx, -1e9)", f"h = h.scatter(1, idx, max(-1e9, {LIMIT}.min))"),
    ("h = F.pad(h, (0, 1), value=-1e9)", f"h = F.pad(h, (0, 1), value=max(-1e9, {LIMIT}.min))"),
    ('h = F.pad(h, (0, 1), "constant", -1e9)', f'h = F.pad(h, (0, 1), "constant", max(-1e9, {LIMIT}.min))'),
    ("h = h.clamp(-1e9, max=1e9)", f"h = h.clamp(max(-1e9, {LIMIT}.min), max=min(1e9, {LIMIT}.max))"),
    ("h = (h @ h.t()).masked_fill(mask, -1e9)", "h = (h @ h.t()).float().masked_fill(mask, -1e9)"),
    ("h = torch.where(mask, h, -9e16 * torch.ones_like(h))", "h = torch.where(mask, h, -9e16 * torch.ones_like(h).float())"),
    ("h = h + (1 - mask.type_as(h)) * NEG_INF", "h = h + ((1 - mask.type_as(h)).float()) * NEG_INF"),
    ("h = h - 1e9", "h = h.float() - 1e9"),
]

REPORTED = [
    "h = h + self.emb(idx.masked_fill(mask, 100000))",  # integers have no torch.finfo
    "h.view(-1).masked_fill_(mask, -1e9)",
    "h[mask] -= 1e9",
]


@pytest.mark.parametrize("body", LEFT_ALONE)
def test_left_alone(body: str) -> None:
    check_left_alone(body)


@pytest.mark.parametrize(("body", "expected"), WRITTEN, ids=[body for body, _ in WRITTEN])
def test_written(body: str, expected: str) -> None:
    check_written(body, expected, "AMP210")


@pytest.mark.parametrize("body", REPORTED)
def test_reported(body: str) -> None:
    check_reported(body, "AMP210")


def test_a_cast_is_only_reported_where_the_file_works_in_float64() -> None:
    body = "y = x.double()\nh = (h @ h.t()).masked_fill(mask, -1e9)"
    result = convert(body)
    assert lines(result) == body
    assert [d.code for d in result.diagnostics] == ["AMP210"]
