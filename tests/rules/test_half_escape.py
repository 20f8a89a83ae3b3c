import pytest

from tests.rules.steps import notes, script, written

LEFT_ALONE = {
    "indices": "a = out.argmax(1).cpu().numpy()",
    "the index of a maximum": "a = out.max(1)[1].numpy()",
    "the index of a maximum, unpacked": "_, a = torch.max(out, 1)\nb = a.cpu().numpy()",
    "labels": "a = y.numpy()",
    "cast already": "a = out.detach().float().numpy()",
    "a number": "a = loss.item()",
    "a comparison": "a = (out > 0).numpy()",
    "printed": "print(loss, out)",
    "two halves": "a = out @ out.t()",
    "an attribute": "a = out.shape",
    "equal to itself": "a = torch.equal(out, out)",
    "weights": "a = net.body.weight.detach().numpy()",
    "float32 into a layer": "a = net.tail(torch.randn(2, 4))",
    "a loss of data": "a = F.mse_loss(x, x)",
    "a checkpoint": "torch.save({'net': net.state_dict(), 'loss': loss}, 'last.pt')",
}


@pytest.mark.parametrize("statement", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(statement: str) -> None:
    source = script(after=statement)
    assert written(source, "AMP216") == []
    assert notes(source, "AMP216") == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("a = out.detach().cpu().numpy()", "a = out.detach().cpu().float().numpy()"),
        ("a = out.softmax(1).tolist(), out.data.numpy()", "a = out.softmax(1).tolist(), out.data.float().numpy()"),
        ("a = np.asarray(out.detach())", "a = np.asarray(out.detach().float())"),
        ("a = loss.detach().numpy()", "a = loss.detach().float().numpy()"),
        ("a = net(x).detach().numpy()", ""),  # it runs outside of regions: float32
        ("a = out.detach() @ torch.randn(3, 2)", "a = out.detach().float() @ torch.randn(3, 2)"),
        ("w = torch.randn(3, 2)\na = torch.mm(out, w)", "a = torch.mm(out.float(), w)"),
        ("a = net.tail(out.detach())", "a = net.tail(out.detach().float())"),
        ("a = F.cross_entropy(out.detach(), y)", "a = F.cross_entropy(out.detach().float(), y)"),
        ("a = torch.allclose(out, x)", "a = torch.allclose(out.float(), x)"),
    ],
)
def test_written(statement: str, expected: str) -> None:
    assert written(script(after=statement), "AMP216") == ([expected] if expected else [])


POLICY = """\
class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def act(self, x, action=None):
        logits = self.head(x)
        if action is None:
            action = torch.distributions.Categorical(logits=logits).sample()
        return action, torch.tanh(logits) * self.width

policy = Policy()
"""


def test_results_of_a_method() -> None:
    act = "with torch.no_grad():\n    action, mean = policy.act(x)\n"
    arrays = "a = action.cpu().numpy()\nb = mean.cpu().numpy()"
    source = script(start=POLICY, after=act + arrays)
    assert written(source, "AMP216") == ["b = mean.cpu().float().numpy()"]  # an action is a number of a class
    assert notes(source, "AMP216") == []


def test_helper() -> None:
    helper = "def score(values, labels):\n    return (values.detach().numpy() == labels.numpy()).mean()\n"
    assert written(script(top=helper, after="print(score(out, y))"), "AMP216") == ["print(score(out.float(), y))"]


@pytest.mark.parametrize(
    "source",
    [
        script(after="torch.save(out, 'out.pt')"),
        script(after="a = out.detach().numpy()", start="torch.set_default_dtype(torch.float64)"),
        script(between="chosen = choose(out)", after="a = chosen.numpy()"),
    ],
    ids=["saved", "float64", "may be an index"],
)
def test_reported(source: str) -> None:
    assert written(source, "AMP216") == []
    assert len(notes(source, "AMP216")) == 1
