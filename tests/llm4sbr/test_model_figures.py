"""A session's graph and learning curves, as drawn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from recnb.llm4sbr import figures
from recnb.recommenders import session_graphs


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_graph_has_an_arrow_per_edge_and_matrices_their_shares() -> None:
    graph = session_graphs(torch.tensor([[0, 1, 0, 2, 2]]))
    names = ["tea", "cup", "kettle"]
    drawn = figures.graph_and_matrices(
        names, graph.alias[0].tolist(), graph.inward[0].numpy(), graph.outward[0].numpy()
    )
    nodes, inward, outward = drawn.axes
    arrows = [text for text in nodes.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == 3, "0 to 1, 1 to 0, 0 to 2"
    assert [text.get_text() for text in nodes.texts].count("↻") == 1, "2 to itself"
    for axis, shares in ((inward, graph.inward[0]), (outward, graph.outward[0])):
        assert [text.get_text() for text in axis.texts] == [f"{share:.2g}" for share in shares.flatten().tolist()]


def test_learning_curves_ring_the_epoch_that_is_kept() -> None:
    logs = {
        name: [{"epoch": 1.0 + e, "loss": 3.0 - e, "R@10": reached} for e, reached in enumerate(found)]
        for name, found in {"one": [0.1, 0.3, 0.2], "two": [0.2, 0.1]}.items()
    }
    loss, reached = figures.learning_curves(logs).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[3.0, 2.0, 1.0], [3.0, 2.0]]
    rings = [line for line in reached.lines if line.get_markerfacecolor() == "none"]
    assert [(np.ravel(ring.get_xdata()).item(), np.ravel(ring.get_ydata()).item()) for ring in rings] == [(2.0, 0.3), (1.0, 0.2)]


def test_a_dose_is_drawn_in_points_over_what_the_texts_find_alone() -> None:
    doses = pd.DataFrame({
        "share": [1.0, 0.0], "alone": [0.9, 0.1], "diff": [0.05, 0.01], "low": [0.04, -0.01], "high": [0.06, 0.03],
    })  # fmt: skip
    axis = figures.dose_response(doses, "R@10").axes[0]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([10, 90])
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([1, 5])
    assert [text.get_text() for text in axis.texts] == ["0 %", "100 %"] and axis.get_ylabel() == "R@10 gained, points"
