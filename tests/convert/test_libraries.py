"""Libraries: files that train nothing come out as they went in, and soon."""

import pytest

from tests.convert.sweep import REFUSED, TRAINING, installed, report, sample, swept, wrong

AT_MOST = 20  # seconds of CPU time that one file may take; the slowest takes about one


def test_a_sample_of_what_is_installed_is_left_alone() -> None:
    found = list(swept(sample(240)))
    assert len(found) >= 300
    assert [(one.name, wrong(one)) for one in found if wrong(one)] == []
    assert max(one.seconds for one in found) < AT_MOST


@pytest.mark.long
def test_all_that_is_installed_is_left_alone() -> None:
    found = list(swept(installed()))
    print(report(found))
    assert len(found) > 5000
    assert [(one.name, wrong(one)) for one in found if wrong(one)] == []
    assert max(one.seconds for one in found) < AT_MOST
    statuses = {one.name: one.result.status for one in found}
    assert [name for name in REFUSED if statuses[name] != "refused"] == []
    assert any(status == "converted" for name, status in statuses.items() if name.startswith(TRAINING))
