"""The drawings say what the matrices hold."""

from __future__ import annotations

import matplotlib.pyplot as plt

from recnb.llm4sbr.figures import hypergraph, neighbour_counts


def words(axis: plt.Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_three_sessions_their_matrix_and_what_they_share() -> None:
    figure = hypergraph([[0, 1, 2], [1, 2, 3, 1], [3, 4, 5]], ["A", "B", "C", "D", "E", "$x^2$ <b>"])
    drawn, matrix, lines = figure.axes
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["A", "B", "C", "D", "E", r"\$x^2\$ <b>"]
    assert "".join(words(matrix)) == "100" "110" "110" "011" "001" "001"
    assert {text for text in words(lines) if "/" in text} == {"2/4", "1/5"}, "s1 and s3 share nothing"
    assert {"s1", "s2", "s3", "A", "E"} <= set(words(drawn))
    figure.canvas.draw()
    plt.close(figure)


def test_neighbours_have_their_counts() -> None:
    figure = neighbour_counts("Alien", ["Aliens", "Dune"], [41.0, 3.0], 3)
    (axis,) = figure.axes
    assert words(axis) == ["41", "3"] and axis.get_xlabel() == "times at most 3 clicks from Alien"
    plt.close(figure)
