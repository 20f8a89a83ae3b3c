"""The rules that only report: nothing is written for them."""

import pytest

from ampify import convert
from tests.rules.steps import notes, script

NORM = "norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n"
THREADED = "def predict():\n    return net(torch.randn(2, 4))\n"


@pytest.mark.parametrize(
    ("code", "source", "line"),
    [
        ("AMP221", script(between="assert torch.isfinite(loss)"), ""),
        ("AMP221", script(between=NORM + "if torch.isnan(norm):\n    print(norm)"), ""),
        ("AMP221", script(between=NORM + "if torch.isfinite(norm):\n    pass"), ""),
        ("AMP221", script(after="if not np.isfinite(loss.item()):\n    sys.exit(1)"), ""),
        ("AMP221", script(after="if any(p.isnan().any() for p in net.parameters()):\n    raise ValueError"), ""),
        ("AMP221", script(start="torch.autograd.set_detect_anomaly(False)"), ""),
        ("AMP221", script(between="nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=False)"), ""),
        ("AMP221", script(between=NORM + "assert torch.isfinite(norm)"), "assert torch.isfinite(norm)"),
        ("AMP221", script(between=NORM + "if not norm.isfinite():\n    raise ValueError"), "if not norm.isfinite():"),
        ("AMP221", script(between=NORM + "if torch.isnan(norm):\n    sys.exit(1)"), "if torch.isnan(norm):"),
        ("AMP221", script(start="torch.autograd.set_detect_anomaly(True)"), "torch.autograd.set_detect_anomaly(True)"),
        (
            "AMP221",
            script(between="nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)"),
            "nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)",
        ),
        ("AMP223", script(between="z = x.double()"), ""),
        ("AMP223", script(start="net.double()"), "net.double()"),
        ("AMP223", script(start="torch.set_default_dtype(torch.float64)"), "torch.set_default_dtype(torch.float64)"),
        ("AMP224", script(top="import re\nword = re.compile('a')"), ""),
        ("AMP224", script(start="net = torch.compile(net)"), "net = torch.compile(net)"),
        ("AMP226", script(top="def log():\n    print('.')\n", start="threading.Thread(target=log).start()"), ""),
        (
            "AMP226",
            script(
                start=THREADED.replace("    return", "    with torch.no_grad():\n        return")
                + "threading.Thread(target=predict)"
            ),
            "",
        ),
        (
            "AMP226",
            script(start=THREADED + "threading.Thread(target=predict).start()"),
            "threading.Thread(target=predict).start()",
        ),
        ("AMP227", script(after="traced = torch.jit.trace(net, x)"), ""),
        ("AMP227", script(forward="h = torch.jit.trace(self.body, x)(x)"), "h = torch.jit.trace(self.body, x)(x)"),
    ],
)
def test_reports(code: str, source: str, line: str) -> None:
    assert notes(source, code) == ([line] if line else [])


def test_severity() -> None:
    result = convert(script(start="net = torch.compile(net)\ntorch.autograd.set_detect_anomaly(True)").encode())
    assert [(d.code, d.severity) for d in result.diagnostics] == [("AMP221", "warning"), ("AMP224", "info")]
