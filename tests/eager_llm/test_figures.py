"""Figures of training: what they show is what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from recnb.eager_llm.figures import con_sees, histories_seen, shown_and_asked


def test_a_pass_is_drawn_as_what_it_shows_and_asks() -> None:
    figure = shown_and_asked({"pairs": np.array([[0, 1, 2], [0, 2, 3]]), "windows": np.array([[0, 1, 3]])})
    pairs, windows = figure.axes
    drawn = [[(bar.get_x(), bar.get_width()) for bar in axis.patches] for axis in (pairs, windows)]
    assert drawn == [[(0, 1), (1, 1), (0, 2), (2, 1)], [(0, 1), (1, 2)]]
    assert [text.get_text() for text in windows.get_legend().get_texts()] == ["shown", "target"]
    plt.close(figure)


def test_the_summary_is_said_to_see_its_target_only_behind_it() -> None:
    rows = {"after": ["prompt", "item 1", "item 2", "[CON]"], "before": ["prompt", "item 1", "[CON]", "item 2"]}
    figure = con_sees(rows, "item 2")
    said = [text.get_text() for text in figure.axes[0].texts if "sight" in text.get_text()]
    assert said == ["the target is in sight: to reconstruct", "not yet in sight: to predict"]
    plt.close(figure)


def test_shares_of_targets_that_see_so_many_items() -> None:
    figure = histories_seen({"windows": np.array([1, 2, 3, 4])})
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5] and line.get_ydata().tolist() == [1, 1, 0.75, 0.5, 0.25, 0]
    plt.close(figure)
