"""What the drawings of stage one say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from recnb.llm4sbr.figures import forks_drawn, report_bars


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_forks_leave_the_list_where_their_prefix_ends() -> None:
    axes = forks_drawn([("heading", 10), ("1. A", 4), ("2. B", 6)], [(2, "long", "and now?"), (3, "short", "3.")]).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["heading\n10 tokens", "1. A\n4 tokens", "2. B\n6 tokens"]
    assert texts[3:] == ["long: and now?", "short: 3."]
    left = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 3]
    assert 13 < left[0] <= 14 and 19 < left[1] <= 20, "behind the tokens of two and of three pieces"


def test_bars_are_the_shares_in_percent() -> None:
    shares = {"empty": 0.0, "distinct": 0.5, "exact": 0.25, "in_session": 1.0, "last": 0.75, "first": 0.1}
    axes = report_bars({"long": shares, "short": dict.fromkeys(shares, 0.2)}).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([0, 50, 25, 100, 75, 10] + [20] * 6)
