"""Findings: statuses in their order, p-values to statuses, and how they print."""

import pytest

from treadle.core import DataError
from treadle.experiment.findings import BLOCK, WARN, Check, blocking, judge, probability, worst

CHECK = Check("a check", "it matters", "do this")


def test_a_pvalue_means_a_status():
    assert [judge(p) for p in (0.5, WARN, WARN * 0.99, BLOCK, BLOCK * 0.99, 0.0)] == [
        "pass",
        "pass",
        "warn",
        "warn",
        "block",
        "block",
    ]
    assert judge(float("nan")) == "pass"


def test_the_worst_and_the_blocking():
    found = [CHECK.finding(status, "x") for status in ("pass", "block", "warn")]
    assert worst(found) == "block"
    assert worst(["warn", "pass"]) == "warn"
    assert worst([]) == "pass"
    assert blocking(found) == (found[1],)
    with pytest.raises(DataError, match="the status 'bad' is unknown; it is one of pass, warn, block"):
        worst(["bad"])


def test_a_finding_says_why_and_what_to_do_unless_it_passes():
    bad, good = CHECK.finding("warn", "12 of 20", share=0.6), CHECK.finding("pass", "fine")
    assert str(bad) == "warn  a check: 12 of 20\n      Why: it matters\n      Do: do this"
    assert str(good) == "pass  a check: fine"
    assert bad.evidence == {"share": 0.6}


def test_pvalues_as_text():
    assert [probability(p) for p in (0.5, 0.00012, 0.0)] == ["p = 0.500", "p = 1.2e-04", "p < 1e-300"]
