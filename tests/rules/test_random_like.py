"""AMP232: numbers drawn in half precision."""

import pytest

from tests.rules.snippets import check_left_alone, check_reported, check_written

LEFT_ALONE = [
    "h = h + torch.randn(3, 4)",
    "h = h + torch.randn(h.shape)",
    "h = h + torch.randn_like(h, dtype=torch.float32)",
    "h = h + torch.randn_like(h.float())",
    "h = h + torch.randn_like(self.scale)",
    "h = h + torch.zeros_like(h)",
    "h = h + torch.empty(3, 4).normal_()",
    "h = h * torch.empty_like(h).bernoulli_(0.5)",
    "h = h + torch.normal(0.0, 1.0, (3, 4))",
    "h = F.dropout(h)",
    "h = h + self.emb(torch.randint_like(idx, 4))",
    "nn.init.normal_(self.fc.weight)",
]

WRITTEN = [
    ("h = h + torch.randn_like(h)", "h = h + torch.randn_like(h.float())"),
    ("h = h + torch.randn_like(torch.exp(0.5 * h))", "h = h + torch.randn_like(torch.exp(0.5 * h).float())"),
    ("h = h + torch.rand_like(input=h)", "h = h + torch.rand_like(input=h.float())"),
    ("h = h + torch.empty_like(h).uniform_(0, 1)", "h = h + torch.empty_like(h.float()).uniform_(0, 1)"),
    ("h = h + h.new_empty(3, 4).normal_()", "h = h + h.float().new_empty(3, 4).normal_()"),
    ("h = h + h.data.new(h.size()).normal_()", "h = h + h.data.float().new(h.size()).normal_()"),
    ("h = h + h.new(h.size()).to(x.device).normal_()", "h = h + h.float().new(h.size()).to(x.device).normal_()"),
    ("h = torch.normal(h, 1.0)", "h = torch.normal(h.float(), 1.0)"),
]

REPORTED = ["y = x.double()\nh = h + torch.randn_like(h)"]


@pytest.mark.parametrize("body", LEFT_ALONE)
def test_left_alone(body: str) -> None:
    check_left_alone(body)


@pytest.mark.parametrize(("body", "expected"), WRITTEN, ids=[body for body, _ in WRITTEN])
def test_written(body: str, expected: str) -> None:
    check_written(body, expected, "AMP232")


@pytest.mark.parametrize("body", REPORTED)
def test_reported(body: str) -> None:
    check_reported(body, "AMP232")
