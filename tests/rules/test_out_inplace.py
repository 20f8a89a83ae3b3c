"""AMP213: matrix products into what is there already."""

import pytest

from tests.rules.snippets import check_left_alone, check_reported, check_written

NEW = "out = torch.zeros(3, 4)\n"
LEFT_ALONE = [
    NEW + "torch.mm(self.memory, self.memory, out=out)\nh = h + out",
    NEW + "torch.add(h, h, out=out)\nh = h + out",
    NEW + "out.addr_(h[:, 0], h[0])\nh = h + out",
    NEW + "out.addmm_(self.memory, self.memory)\nh = h + out",
    NEW + "out.addmm_(h.to(out.dtype), h.to(out.dtype))\nh = h + out",
    NEW + "h = torch.addmm(out, h, h)",
    "h = torch.mm(h, h, out=None)",
    "h = h @ h",
]

WRITTEN = [
    (NEW + "torch.mm(h, h, out=out)\nh = out", NEW + "torch.mm(h.to(out.dtype), h.to(out.dtype), out=out)\nh = out"),
    (NEW + "h = h.matmul(self.memory, out=out)", NEW + "h = h.to(out.dtype).matmul(self.memory.to(out.dtype), out=out)"),
    (NEW + "out.addmm_(h, h.t())\nh = out", NEW + "out.addmm_(h.to(out.dtype), h.t().to(out.dtype))\nh = out"),
    (NEW + "h = out.addmv_(h, h[0], beta=2)", NEW + "h = out.addmv_(h.to(out.dtype), h[0].to(out.dtype), beta=2)"),
    ("h.baddbmm_(self.memory, h)", "h.baddbmm_(self.memory.to(h.dtype), h.to(h.dtype))"),
]

REPORTED = [
    NEW + "out.select(0, 0).addmv_(h, h[0])\nh = out",
    "h = torch.zeros(3, 4).addmm_(h, h)",
    NEW + "out.addmm_(h, idx)\nh = out",
]


@pytest.mark.parametrize("body", LEFT_ALONE)
def test_left_alone(body: str) -> None:
    check_left_alone(body)


@pytest.mark.parametrize(("body", "expected"), WRITTEN, ids=[body for body, _ in WRITTEN])
def test_written(body: str, expected: str) -> None:
    check_written(body, expected, "AMP213")


@pytest.mark.parametrize("body", REPORTED)
def test_reported(body: str) -> None:
    check_reported(body, "AMP213")
