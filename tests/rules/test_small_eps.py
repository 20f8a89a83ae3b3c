"""AMP211: numbers that vanish in float16."""

import pytest

from tests.rules.snippets import check_left_alone, check_reported, check_written

LEFT_ALONE = [
    "h = h / (h.norm() + 1e-4)",
    "h = h / (h.norm() + self.eps)",
    "h = h / (h.norm() + self.small)",
    "h = h / (h.norm().float() + 1e-8)",
    "h = h / (self.scale.norm() + 1e-8)",
    "h = h / (len(x) + 1e-8)",
    "h = h / (x.shape[0] + 1e-8)",
    "h = h / (h.norm().item() + 1e-8)",
    "h = h / (count + 1e-8)",
    "h = h + 1e-8 * 0 + 0",
    "h = F.layer_norm(h, (4,), eps=1e-12)",
    "h = F.normalize(h, dim=-1, eps=1e-3)",
    "h = h.clamp(min=0.1)",
    "h = h.clamp(0, 1)",
    "h = h.add(1)",
    "close = bool((h < 1e-8).any())",
    "h = nn.LayerNorm(4, eps=1e-12)(h)",
    "optimizer = torch.optim.Adam(self.parameters(), eps=1e-8)",
]

WRITTEN = [
    ("h = h / (h.norm(dim=-1, keepdim=True) + 1e-8)", "h = h / (h.norm(dim=-1, keepdim=True).float() + 1e-8)"),
    ("h = h / (h.sum(1, keepdim=True) + EPS)", "h = h / (h.sum(1, keepdim=True).float() + EPS)"),
    ("h = h / (h.sum(1, keepdim=True) + self.tiny)", "h = h / (h.sum(1, keepdim=True).float() + self.tiny)"),
    ("h = 1 / (1e-8 + h)", "h = 1 / (1e-8 + h.float())"),
    ("h = h - 1e-6", "h = h.float() - 1e-6"),
    ("h = torch.sqrt(h * h + 1e-12)", "h = torch.sqrt((h * h).float() + 1e-12)"),
    ("h = torch.log(F.softmax(h, -1) + 1e-10)", "h = torch.log(F.softmax(h, -1).float() + 1e-10)"),
    ("h = h * torch.rsqrt(h.pow(2).mean(-1) + 1e-6)", "h = h * torch.rsqrt(h.pow(2).mean(-1).float() + 1e-6)"),
    ("h = h.clamp(min=1e-8)", "h = h.float().clamp(min=1e-8)"),
    ("h = h.clamp(EPS, 1 - EPS)", "h = h.float().clamp(EPS, 1 - EPS)"),
    ("h = torch.clamp(h.norm(dim=1), min=1e-8)", "h = torch.clamp(h.norm(dim=1).float(), min=1e-8)"),
    ("h = h.clamp_min(1e-8)", "h = h.float().clamp_min(1e-8)"),
    ("h = h / h.norm().clamp_(min=1e-8)", "h = h / h.norm().float().clamp_(min=1e-8)"),
    ("torch.set_default_dtype(torch.float32)\nh = h + 1e-8", "torch.set_default_dtype(torch.float32)\nh = h.float() + 1e-8"),
    ("h = h.add(1e-8).sqrt()", "h = h.float().add(1e-8).sqrt()"),
    ("h = F.normalize(h, dim=-1)", "h = F.normalize(h.float(), dim=-1)"),
    ("h = F.normalize(h, dim=-1, eps=1e-8)", "h = F.normalize(h.float(), dim=-1, eps=1e-8)"),
    ("h = F.cosine_similarity(h, x)", "h = F.cosine_similarity(h.float(), x.float())"),
]

REPORTED = [
    "h += 1e-8",
    "h.clamp_(min=1e-8)",
    "h.add_(1e-8)",
    "h = h.double() + (h + 1e-8)",
    "torch.set_default_dtype(idx.dtype)\nh = h + 1e-8",
]


@pytest.mark.parametrize("body", LEFT_ALONE)
def test_left_alone(body: str) -> None:
    check_left_alone(body)


@pytest.mark.parametrize(("body", "expected"), WRITTEN, ids=[body for body, _ in WRITTEN])
def test_written(body: str, expected: str) -> None:
    check_written(body, expected, "AMP211")


@pytest.mark.parametrize("body", REPORTED)
def test_reported(body: str) -> None:
    check_reported(body, "AMP211")
