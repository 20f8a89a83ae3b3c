import pytest

from ampify import convert
from tests.rules.steps import notes, script, written

LEFT_ALONE = {
    "a parameter of the model": "torch.linalg.inv(self.body.weight)",
    "cast already": "torch.linalg.inv(h.float())",
    "cast, and transposed": "torch.linalg.inv(h.float().t())",
    "float64": "torch.linalg.inv(torch.eye(3))",
    "a norm has a rule": "torch.linalg.norm(h)",
    "a product has a rule": "torch.linalg.matmul(h, h)",
    "cdist has a rule": "torch.cdist(h, h)",
    "an inverse Fourier transform": "torch.fft.irfft(torch.fft.rfft(h.float()))",
    "a complex product": "torch.fft.ifft(torch.fft.fft(h.float()) * torch.fft.fft(h.float())).real",
    "frequencies": "torch.fft.rfftfreq(h.size(1))",
    "an inverse of something else": "self.flow.inverse(h)",
    "torch.cond is control flow": "torch.cond(h.sum() > 0, torch.relu, torch.tanh, (h,))",
    "order statistics": "h.median()",
    "a dense product": "h @ h.t()",
    "a dense product of what is bound to itself": "(h := h.view(4, 4)) @ h.t()",
}


@pytest.mark.parametrize("expression", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(expression: str) -> None:
    source = script(forward=f"z = {expression}")
    assert written(source, "AMP214") == []
    assert notes(source, "AMP214") == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("z = torch.inverse(h)", ["z = torch.inverse(h.float())"]),
        ("z = torch.linalg.slogdet(h @ h.t())[1]", ["z = torch.linalg.slogdet((h @ h.t()).float())[1]"]),
        ("z = (h @ h.t()).inverse()", ["z = (h @ h.t()).float().inverse()"]),
        ("z = h.t().det()", ["z = h.t().float().det()"]),
        ("z = torch.linalg.solve(h, self.body.weight)", ["z = torch.linalg.solve(h.float(), self.body.weight)"]),
        ("z = torch.linalg.solve(A=h, B=h)", ["z = torch.linalg.solve(A=h.float(), B=h.float())"]),
        ("u, s, v = torch.linalg.svd(h)", ["u, s, v = torch.linalg.svd(h.float())"]),
        ("z = torch.fft.fft(h).abs()", ["z = torch.fft.fft(h.float()).abs()"]),
        ("z = torch.fft.rfft2(x)", ["z = torch.fft.rfft2(x.float())"]),
        ("z = h.quantile(0.5)", ["z = h.float().quantile(0.5)"]),
        ("z = torch.quantile(input=h, q=0.5)", ["z = torch.quantile(input=h.float(), q=0.5)"]),
        ("z = torch.complex(h, torch.zeros_like(h))", ["z = torch.complex(h.float(), torch.zeros_like(h).float())"]),
        ("z = F.ctc_loss(h.log_softmax(2), y, i, t)", ["z = F.ctc_loss(h.log_softmax(2).float(), y, i, t)"]),
        (
            "z = F.embedding_bag(x, self.tail.weight, per_sample_weights=h)",
            ["z = F.embedding_bag(x, self.tail.weight, per_sample_weights=h.float())"],
        ),
        ("z = torch.linalg.pinv(h)", ["with autocast(enabled=False):", "z = torch.linalg.pinv(h.float())"]),
        (
            "z = torch.sparse.mm(x, self.tail.weight) + h",
            ["with autocast(enabled=False):", "z = torch.sparse.mm(x.float(), self.tail.weight) + h.float()"],
        ),
        (
            "a = torch.eye(3).to_sparse()\nz = a @ h",
            ["with autocast(enabled=False):", "z = a @ h.float()"],
        ),
    ],
)
def test_written(statement: str, expected: list[str]) -> None:
    assert written(script(forward=statement), "AMP214") == expected


@pytest.mark.parametrize(
    "source",
    [
        script(forward="z = torch.linalg.inv(h)", start="torch.set_default_dtype(torch.float64)"),
        script(
            top="def spectrum(z):\n    return torch.fft.fft(z)\n", forward="z = spectrum(torch.fft.fft(h.float()))"
        ),  # a parameter that may be complex
        script(forward="if torch.linalg.pinv(h).sum() > 0:\n    pass"),
        script(top="def mix(e, h):\n    return e + torch.linalg.pinv(h)\n", forward="z = mix(other(), h)"),  # may be an index
    ],
    ids=["float64", "complex", "in a condition", "beside a call of unknown values"],
)
def test_reported(source: str) -> None:
    assert written(source, "AMP214") == []
    assert len(notes(source, "AMP214")) == 1


def test_no_training_step() -> None:
    source = script(forward="z = torch.linalg.inv(h)").replace("loss.backward()", "pass  # no backward")
    assert convert(source.encode()).status == "unchanged"
