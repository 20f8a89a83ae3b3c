import pytest

from tests.rules.steps import script, written

LEFT_ALONE = {
    "a number": ("total = 0", "total += loss.item()"),
    "a float": ("total = 0", "total += float(loss)"),
    "a float32 tensor": ("total = torch.zeros(1)", "total += loss.detach()"),
    "cast already": ("total = 0", "total += loss.detach().float()"),
    "a count": ("total = 0", "total += y.size(0)"),
    "right answers": ("total = 0", "total += (out.argmax(1) == y).sum()"),
    "a list": ("total = []", "total.append(loss.detach())"),
}


@pytest.mark.parametrize(("start", "statement"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(start: str, statement: str) -> None:
    assert written(script(start=start, after=statement), "AMP225") == []


def test_sum_that_goes_backward() -> None:
    source = script().replace("    loss = F.cross", "    loss = 0\n    for z in [x]:\n        loss += F.cross")
    assert written(source, "AMP225") == []
    returned = "def both(a, y):\n    loss = F.cross_entropy(a, y)\n    loss = loss + F.cross_entropy(-a, y)\n    return loss\n"
    assert written(script(top=returned).replace("F.cross_entropy(out", "both(out"), "AMP225") == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("total += loss", "total += loss.float()"),
        ("total += loss.detach()", "total += loss.detach().float()"),
        ("total = total + loss.data", "total = total + loss.data.float()"),
        ("total += loss.detach() * x.size(0)", "total += loss.detach().float() * x.size(0)"),
    ],
)
def test_written(statement: str, expected: str) -> None:
    assert written(script(start="total = 0.0", after=statement), "AMP225") == [expected]


def test_without_gradients() -> None:
    source = script(top="") + (
        "\ndef test(net, data):\n    total = 0\n    with torch.no_grad():\n        for x, y in data:\n"
        "            out = net(x)\n            total += F.cross_entropy(out, y)\n    return total\n"
    )
    assert written(source, "AMP225") == ["total += F.cross_entropy(out, y).float()"]
