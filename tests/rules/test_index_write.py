"""AMP212: elements written in another precision."""

import pytest

from tests.rules.snippets import check_left_alone, check_reported, check_written

NEW = "out = torch.zeros(3, 4)\n"
LEFT_ALONE = [
    "out = torch.full_like(h, 0.0)\nvalues, picked = torch.topk(h, 2)\nout.scatter_(1, picked, values)\nh = out",
    "h = torch.flip(h, dims=[1])\nrow = h[:, idx].clone()\nh[:, idx] = row",
    NEW + "out[0] = h[0]\nh = out",
    NEW + "out[:2] = h[:2]\nh = out",
    NEW + "out[..., None, 1:] = h[..., None, 1:]\nh = out",
    NEW + "for i in range(3):\n    out[i] = h[i]\nh = out",
    NEW + "for i, row in enumerate(h):\n    out[i, :] = row\nh = out",
    NEW + "out[mask] = 1.0\nh = out",
    NEW + "out[mask] = torch.randn(4)\nh = h + out",
    NEW + "out[mask] = h[mask].float()\nh = out",
    NEW + "out[mask] += h[mask]\nh = out",
    NEW + "out.copy_(h)\nh = out",
    NEW + "out = out.scatter(1, idx, 1.0)\nh = h + out",
    NEW + "out.index_add_(0, idx, torch.ones(3, 4))\nh = h + out",
    NEW + "out[idx] = h.to(out.dtype)\nh = out",
    "h[mask] = h[~mask]",
    "h[mask] = 0",
    "outputs = {}\noutputs[idx] = h",
    "outputs = [None] * 4\noutputs[idx] = h",
    "outputs = [torch.zeros(4) for _ in range(3)]\noutputs[count] = h",
    "outputs = {k: self.fc(x) for k in 'ab'}\noutputs[neg] = h",
]

WRITTEN = [
    (NEW + "out[mask] = h[mask]\nh = out", NEW + "out[mask] = h[mask].to(out.dtype)\nh = out"),
    (NEW + "out[idx] = h\nh = out", NEW + "out[idx] = h.to(out.dtype)\nh = out"),
    (NEW + "out[[0, 2]] = h[:2] * 2\nh = out", NEW + "out[[0, 2]] = (h[:2] * 2).to(out.dtype)\nh = out"),
    (NEW + "out[:, idx] = h\nh = out", NEW + "out[:, idx] = h.to(out.dtype)\nh = out"),
    (NEW + "out[out > 0] = h[out > 0]\nh = out", NEW + "out[out > 0] = h[out > 0].to(out.dtype)\nh = out"),
    ("h[mask] = torch.randn(4)", "h[mask] = torch.randn(4).to(h.dtype)"),
    ("h[idx] = self.memory[idx]", "h[idx] = self.memory[idx].to(h.dtype)"),
    ("self.memory[idx] = h.detach()", "self.memory[idx] = h.detach().to(self.memory.dtype)"),
    (NEW + "out.index_add_(0, idx, h)\nh = out", NEW + "out.index_add_(0, idx, h.to(out.dtype))\nh = out"),
    (NEW + "out[count].index_add_(0, idx, h[0])\nh = out", NEW + "out[count].index_add_(0, idx, h[0].to(out.dtype))\nh = out"),
    (NEW + "h = out.index_copy(0, idx, source=h)", NEW + "h = out.index_copy(0, idx, source=h.to(out.dtype))"),
    (NEW + "h = torch.scatter(out, 0, idx, h)", NEW + "h = torch.scatter(out, 0, idx, h.to(out.dtype))"),
    (NEW + "out.scatter_add_(0, idx, h)\nh = out", NEW + "out.scatter_add_(0, idx, h.to(out.dtype))\nh = out"),
    (
        NEW + 'out.scatter_reduce_(0, idx, h, "sum")\nh = out',
        NEW + 'out.scatter_reduce_(0, idx, h.to(out.dtype), "sum")\nh = out',
    ),
    (NEW + "h = out.masked_scatter(mask, h)", NEW + "h = out.masked_scatter(mask, h.to(out.dtype))"),
    (NEW + "out.index_put_((idx,), h)\nh = out", NEW + "out.index_put_((idx,), h.to(out.dtype))\nh = out"),
    (NEW + "out.lerp_(h, 0.1)\nh = out", NEW + "out.lerp_(h.to(out.dtype), 0.1)\nh = out"),
    ("h = torch.lerp(h, self.scale, 0.5)", "h = torch.lerp(h, self.scale.to(h.dtype), 0.5)"),
    ("h = torch.zeros(3, 4).index_add(0, idx, h)", "h = torch.zeros(3, 4).index_add(0, idx, h.float())"),
    ("h = x.new_zeros(3, 4).scatter_add_(0, idx, h)", "h = x.new_zeros(3, 4).float().scatter_add_(0, idx, h.float())"),
]

REPORTED = [
    NEW + "out[idx] = h[idx] = self.fc(x)\nh = out",
    NEW + "out.view(-1).index_add_(0, idx, h.view(-1))\nh = out",
    "y = x.double()\nh = torch.zeros(3, 4).index_add(0, idx, h)",
]


@pytest.mark.parametrize("body", LEFT_ALONE)
def test_left_alone(body: str) -> None:
    check_left_alone(body)


@pytest.mark.parametrize(("body", "expected"), WRITTEN, ids=[body for body, _ in WRITTEN])
def test_written(body: str, expected: str) -> None:
    check_written(body, expected, "AMP212")


@pytest.mark.parametrize("body", REPORTED)
def test_reported(body: str) -> None:
    check_reported(body, "AMP212")
