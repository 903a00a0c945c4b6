"""What the answers are like, before anything is trained on them; and the gate that stops a run without a chance.

Shown in ``notebooks/llm4sbr/04_intents.ipynb``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recnb.errors import RecnbError
from recnb.llm4sbr.intents import Questions
from recnb.llm4sbr.prompts import UNCUT, aligned_left
from recnb.llm4sbr.settings import GateConfig
from recnb.style import plain

FREQUENT = 5  # answers that are named
JUDGED = 20  # answers of a view: about fewer, shares say nothing


def title_numbers(texts: Sequence[str], titles: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts that are a title of the catalogue, whatever their case. Returns (A,) number of the title that each text is,
    -1: none; and (N,) number of each item's title: items of one title have one number.
    """
    names = [plain(title, UNCUT).casefold() for title in titles]
    distinct, numbers = np.unique(np.array(names, dtype=object), return_inverse=True)
    return pd.Index(distinct).get_indexer([plain(text, UNCUT).casefold() for text in texts]), numbers


def intent_report(
    answers: pd.DataFrame, questions: Questions, titles: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The text part of the report, by view.

    Args:
        answers: as of :func:`recnb.llm4sbr.intents.ask`; questions: what was asked.
        titles: (N,) of the catalogue, as an answer would name them: :func:`recnb.llm4sbr.prompts.shown_titles` without
            numbers.

    Returns:
        view -> ``answers`` (count), ``empty``, ``distinct`` and ``exact`` (shares of the answers: without a word, of
        different ones, titles of the catalogue), ``in_session``, ``last``, ``first`` (shares of the exact ones: a title
        of the input, of its last, of its first item), ``tokens`` (mean), ``logprob`` (mean per token), ``frequent``
        (the most frequent answers and their shares). A share of nothing is 0.
    """
    rows, counts = aligned_left(questions.inputs)
    place, report = questions.rows(answers), {}
    for column, view in enumerate(questions.views):
        asked = np.flatnonzero(place[:, column] >= 0)
        report[view] = _of_view(answers.iloc[place[asked, column]], rows[asked], counts[asked], titles)
    return report


def _of_view(answers: pd.DataFrame, rows: np.ndarray, counts: np.ndarray, titles: Sequence[str]) -> dict[str, Any]:
    """The report of one view: answers to inputs ``rows`` (A, T), -1 on the right, of ``counts`` (A,) items."""
    found, numbers = title_numbers(answers["text"].tolist(), titles)
    shown = np.where(rows >= 0, numbers[rows], -2)  # (A, T)
    same = shown == found[:, None]
    exact, last = found >= 0, same[np.arange(len(rows)), counts - 1]
    frequent = answers["text"].value_counts(normalize=True)
    frequent = frequent.sort_index().sort_values(ascending=False, kind="stable").head(FREQUENT)
    return {
        "answers": len(answers),
        "empty": _share(answers["text"] == ""),
        "distinct": answers["text"].nunique() / max(1, len(answers)),
        "exact": _share(exact),
        "in_session": _share(same.any(1)[exact]),
        "last": _share(last[exact]),
        "first": _share(same[:, 0][exact]),
        "tokens": float(answers["tokens"].sum() / max(1, len(answers))),
        "logprob": float(answers["logprob"].sum() / max(1, answers["tokens"].sum())),
        "frequent": [[text, float(share)] for text, share in frequent.items()],
    }


def _share(which: Any) -> float:
    found = np.asarray(which, dtype=bool)
    return float(found.mean()) if len(found) else 0.0


def agreement(answers: pd.DataFrame, questions: Questions) -> float:
    """Share of inputs to which all views got one and the same text; 0 where none has all of its answers."""
    place = questions.rows(answers)
    whole = place[(place >= 0).all(1)]
    texts = answers["text"].to_numpy(object)[whole]  # (A', V)
    return _share((texts == texts[:, :1]).all(1))


def gate(report: Mapping[str, Mapping[str, Any]], config: GateConfig) -> str:
    """One sentence that says why the run may go on.

    Raises:
        RecnbError: a view's answers are empty, or the same for too many sessions; it says what to change.
    """
    judged = {view: found for view, found in report.items() if found["answers"] >= JUDGED}
    for view, found in judged.items():
        text, most = found["frequent"][0]
        if found["empty"] > config.max_empty:
            _stop(view, f"{found['empty']:.0%} of the answers have no word", f"max_empty = {config.max_empty:g}")
        if most > config.max_same:
            _stop(view, f"'{plain(text)}' is {most:.0%} of the answers", f"max_same = {config.max_same:g}")
        if found["distinct"] < config.min_distinct:
            _stop(view, f"only {found['distinct']:.1%} are distinct", f"min_distinct = {config.min_distinct:g}")
    if not judged:
        return f"No view has {JUDGED} answers: there is nothing to judge."
    empty = max(found["empty"] for found in judged.values())
    most = max(found["frequent"][0][1] for found in judged.values())
    return f"The gate is open: at most {empty:.1%} of a view's answers are empty, none is more than {most:.1%} of them."


def _stop(view: str, what: str, limit: str) -> None:
    raise RecnbError(
        f"intents.views, {view}: {what}, and intents.gate.{limit}. Such texts say nothing about a session. Choose "
        "another intents.model (one tuned to follow instructions, or a larger one), raise intents.max_tokens, change "
        "the words in recnb/llm4sbr/prompts.yaml, or set intents.source: retrieval"
    )
