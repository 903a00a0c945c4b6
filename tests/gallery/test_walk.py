"""What the toy walk of the gallery has found, beside what `test_walks.py` asks of every walk."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from recnb.gallery.interface import SYSTEMS

NAME = "gallery-toy"
OWN = ("one_table", "chat")


def test_every_system_stands_in_the_table_by_what_its_users_got(gallery_run):
    made = gallery_run / "runs" / NAME / "one_table"
    metrics = json.loads((made / "metrics.json").read_text(encoding="utf-8"))
    users = pd.read_parquet(made / "per_user.parquet")
    names = set(metrics["systems"])
    assert {name.split("/")[0] for name in names} >= {*SYSTEMS, "random", "popularity", "itemknn", "sasrec"}
    assert metrics["ours"] in SYSTEMS and len(users) == metrics["users"]
    for name in names:
        rules = [rule for rule in ("uniform", "popularity", "retrieved") if rule in metrics["systems"][name]]
        assert "popularity" in rules and (len(rules) == 3 or "/" in name)
        for rule in rules:
            assert np.isclose(users[f"hit_{name}_{rule}"].mean(), metrics["systems"][name][rule]["HR@1"])
    cost = metrics["cost"]
    assert cost["llmrank"]["read"] > 0 == cost["popularity"]["read"] and cost["bigrec"]["written"] > 0
    assert cost["llamarec"]["examples"] == 64 and cost["llmrank"]["parameters"] == 0
    scores = np.load(made / "scores_llmrank.npy")
    assert scores.shape == (3, metrics["users"], metrics["draws"], metrics["candidates"])


def test_the_report_names_what_came_out(gallery_run):
    html = (gallery_run / "reports" / NAME / "index.html").read_text(encoding="utf-8")
    assert all(name in html for name in (*OWN, "llamarec", "sasrec")) and str(gallery_run) not in html
