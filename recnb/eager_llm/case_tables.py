"""What a case study shows of one user: a headline, a table, the labels of a tree, a record (07_case_studies).

Everywhere ``walk`` comes from :func:`recnb.eager_llm.explain.explain_search`, ``history`` is (T,) with -1 where there
is no item, ``titles`` are N, and ``popularity_rank`` is (N,), 1 for the most popular in training.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recnb.eager_llm.explain import Prefix, Walk, category_shares, prefix_meaning
from recnb.index.trie import Trie
from recnb.style import escape, percent, plain


def tree_labels(
    tree: Sequence[Prefix], trie: Trie, titles: Sequence[str], categories: Sequence[Sequence[str]],
    token_name: Callable[[int], str],
) -> dict[tuple[int, int], str]:  # fmt: skip
    """What to write at each prefix of a drawn tree: its token, its probability and what its items have in common.

    Args:
        tree: from :func:`recnb.eager_llm.explain.walked_tree`, of this trie.
        categories: N lists of category names.
        token_name: token id -> name, e.g. ``tokenizer.convert_ids_to_tokens``.

    Returns:
        (depth, node) -> label; the title where one item is left.
    """
    labels, shares = {}, category_shares(categories)
    for prefix in tree:
        name = token_name(int(trie.tokens[prefix.depth][prefix.node])).strip("<>")
        text = f"{name} {percent(prefix.probability)}"
        meaning, share = prefix_meaning(trie, prefix.depth, prefix.node, categories, shares)
        if prefix.items == 1:
            text += f"  {plain(titles[prefix.first_item], 44)}"
        elif meaning:
            text += f" · {plain(meaning, 18)} {round(share * prefix.items)}/{prefix.items}"
        labels[prefix.depth, prefix.node] = text if prefix.kept else f"{text} (true item lost here)"
    return labels


def case_header(
    name: str, walk: Walk, history: np.ndarray, titles: Sequence[str], popularity_rank: np.ndarray, shown: int = 8
) -> str:
    """Markdown above a case: the outcome, the ``shown`` latest titles of the history, the true item and its rank."""
    past = [titles[item] for item in history.tolist() if item >= 0]
    return (
        f"### {escape(name)}: {walk.outcome}\n\n"
        f"**The latest of {len(past)} items:** {' · '.join(escape(title, 40) for title in past[-shown:])}\n\n"
        f"**Took next:** {escape(titles[walk.target])} (popularity rank {popularity_rank[walk.target]}); "
        f"the model ranks it {walk.target_rank + 1} of {len(titles)}"
    )


def recommendation_table(
    walk: Walk, titles: Sequence[str], popularity_rank: np.ndarray, popular: np.ndarray, rows: int = 10
) -> pd.DataFrame:
    """The first rows of a list, and beside them what the popularity baseline shows everybody: ``popular`` (W,)."""

    def marked(item: int) -> str:
        return ("✓ " if item == walk.target else "") + plain(titles[item])

    shown = [int(item) for item in walk.items[:rows]]
    return pd.DataFrame(
        {
            "rank": range(1, len(shown) + 1),
            "recommended": [marked(item) for item in shown],
            "probability": [percent(float(np.exp(score))) for score in walk.scores[:rows]],
            "popularity rank": [int(popularity_rank[item]) for item in shown],
            "popularity would say": [marked(item) for item in popular[:rows].tolist()],
        }
    )


def case_record(
    name: str, walk: Walk, history: np.ndarray, item_ids: Sequence[str], titles: Sequence[str],
    popularity_rank: np.ndarray, preference: str,
) -> dict[str, Any]:  # fmt: skip
    """One case as plain values, for ``cases.json``; texts are as in the catalogue: escape them to show them.

    Args:
        item_ids: N ids as in the source; preference: what the model says about the user.
    """

    def entry(item: int) -> dict[str, Any]:
        return {"id": item_ids[item], "title": titles[item], "popularity_rank": int(popularity_rank[item])}

    scored = zip(walk.items.tolist(), walk.scores.tolist(), strict=True)
    return {
        "case": name,
        "outcome": walk.outcome,
        "agreement": round(walk.agreement, 4),
        "history": [titles[item] for item in history.tolist() if item >= 0],
        "target": entry(walk.target) | {"rank": walk.target_rank + 1, "lost_at": walk.lost_at},
        "target_bits": np.round(walk.target_bits, 3).tolist(),
        "recommended": [entry(item) | {"log_probability": round(score, 4)} for item, score in scored],
        "preference": preference,
    }
