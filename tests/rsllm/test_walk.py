"""What the toy walk of RSLLM has found, beside what `test_walks.py` asks of every walk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from recnb.rsllm.recipe import MAIN, RSLLM

TOY, NAME = "params/rsllm/toy.yaml", "rsllm-toy"
STAGES = [spec.name for spec in RSLLM.stages]


def test_the_report_says_what_came_out_and_whether_to_believe_it(ranking_run: Path) -> None:
    html = (ranking_run / "reports" / NAME / "index.html").read_text(encoding="utf-8")
    assert all(stage in html for stage in STAGES) and "HR@1" in html and str(ranking_run) not in html
    assert "Not to be believed yet" in html or "All checks hold" in html
    assert "Seen items kept" not in html, "these are sets of candidates"


def test_every_number_of_the_table_follows_from_the_scores_that_are_kept(ranking_run: Path) -> None:
    folder = ranking_run / "runs" / NAME
    metrics = json.loads((folder / "07_rank" / "metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(folder / "07_rank" / "per_user.parquet")
    assert metrics["ours"] == MAIN and len(rows) == metrics["users"]
    items = np.load(folder / "03_candidates" / "candidates_uniform.npy")
    for name in (MAIN, "sasrec"):
        scores = np.load(folder / "07_rank" / f"scores_{name}.npy")
        hits = [[hit(scores[u, d], items[u, d], target) for d in range(items.shape[1])] for u, target in enumerate(rows.target)]
        assert np.isclose(metrics["systems"][name]["uniform"]["HR@1"], np.mean(hits)), name
        assert np.allclose(rows[f"hit_{name}_uniform"], np.mean(hits, axis=1))
    assert metrics["systems"]["sasrec"]["uniform"]["HR@1"] > 3 / metrics["candidates"]


def hit(scores: np.ndarray, items: np.ndarray, target: int) -> float:
    """Whether the target is first; of two first ones half."""
    own = scores[items == target].item()
    return 0.0 if (scores > own).any() else {1: 1.0, 2: 0.5}.get(int((scores == own).sum()), 0.0)
