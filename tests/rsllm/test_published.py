"""What was published on LLaRA's task: every row there, and each hit ratio a whole number of users of its test set."""

from __future__ import annotations

import pytest
import yaml
from sandbox import ROOT

from recnb.studies.ledger import Published, build_ledger, read_published

WING = "recnb.rsllm"
USERS = {"llara-movielens": 95, "llara-steam": 1188, "llara-lastfm": 122}
SEVERAL = {"GRU4Rec", "Caser", "SASRec", "MoRec", "ST2SI"}  # means of seeds or draws: no whole number of users
ODD = {("llara-steam", "GPT-4, untuned"), ("llara-steam", "TALLRec")}  # no whole number of 1,188 or of 1,194
# HitRatio@1 of LLaRA (GRU4Rec, Caser, SASRec), then of the same after its repairs, typed a second time.
LLARA = {
    "llara-movielens": (0.4421, 0.4737, 0.4421, 0.4000, 0.4211, 0.4526),
    "llara-steam": (0.4924, 0.4874, 0.4949, 0.4916, 0.4621, 0.5051),
    "llara-lastfm": (0.4344, 0.4344, 0.4508, 0.4918, 0.4836, 0.5246),
}
each_key = pytest.mark.parametrize("key", USERS)


def published(key: str) -> Published:
    found = read_published(key, WING)
    assert found is not None
    return found


@each_key
def test_rows_of_single_runs_are_whole_numbers_of_users(key: str) -> None:
    single = {r.system: r.scores().get("R@1") for r in published(key).rows if r.system not in SEVERAL | {"RSLLM"}}
    assert len(single) == 9
    hits = {system: (value or 0) * USERS[key] for system, value in single.items()}
    odd = {(key, system) for system, found in hits.items() if abs(found - round(found)) > 5.1e-5 * USERS[key]}
    assert odd == {each for each in ODD if each[0] == key}


@each_key
def test_llaras_rows_are_as_printed_and_its_best_is_the_target(key: str) -> None:
    scores = {row.system: row.scores().get("R@1") for row in published(key).rows}
    assert tuple(value for name, value in scores.items() if name.startswith("LLaRA")) == LLARA[key]
    assert published(key).target == "LLaRA (SASRec)" and scores["RSLLM"] is None


def test_the_ledger_stands_them_beside_ours() -> None:
    table = build_ledger([{"system": "rsllm", "R@1": 0.5, "N@10": 0.7}], published("llara-movielens")).set_index("system")
    assert table.loc["LLaRA (Caser)", "R@1"] == 0.4737 and table.loc["rsllm", "kind"] == "measured"
    assert table["R@1"].notna().sum() == len(table) - 1, "RSLLM's own table could not be read"


def test_nothing_is_published_on_other_keys() -> None:
    tables = yaml.safe_load((ROOT / "recnb" / "rsllm" / "published.yaml").read_text(encoding="utf-8"))
    assert tuple(tables) == tuple(USERS)
