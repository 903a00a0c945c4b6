"""The item index: unique codes by construction, what codes stand for, the health report and its gate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib import pyplot as plt
from sandbox import FREE_STAGES, ROOT
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from recnb.eager_llm.recipe import EagerLLM
from recnb.errors import ArtifactError, IndexGateError, RecipeError
from recnb.index import figures, health
from recnb.index.build import (
    ItemIndex,
    aligned_codes,
    build_index,
    code_centroids,
    codes_per_level,
    hierarchical_codes,
    local_codes,
    random_codes,
    read_index,
    write_index,
)
from recnb.index.settings import GateConfig, IndexConfig
from recnb.workflow.stage import Stage


def blobs(n: int, groups: int, d: int = 8, seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % groups)
    return (rng.normal(size=(groups, d))[truth] + noise * rng.normal(size=(n, d))).astype(np.float32), truth


def both(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"semantic": blobs(n, 5, 12, seed)[0], "behaviour": blobs(n, 4, 6, seed + 1)[0]}


def assert_unique_and_balanced(codes: np.ndarray, k: int) -> None:
    """Every source's codes are distinct rows in [0, k), and the first level's sizes differ by at most one."""
    assert len({tuple(row) for row in codes.tolist()}) == len(codes)
    assert codes.min() >= 0 and codes.max() < k
    sizes = np.bincount(codes[:, 0], minlength=k)
    assert set(np.unique(sizes)) <= {len(codes) // k, len(codes) // k + 1}


# --- uniqueness, balance, determinism ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 70), levels=st.integers(1, 4), more=st.integers(0, 6), seed=st.integers(0, 2**20),
    kind=st.sampled_from(["local", "aligned", "random"]), rough=st.booleans(),
)  # fmt: skip
def test_codes_are_unique_for_any_size(n: int, levels: int, more: int, seed: int, kind: str, rough: bool) -> None:
    k = codes_per_level(n, IndexConfig(levels=levels)) + more
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x = np.round(x) if rough else x
    codes = random_codes(n, k, levels, seed) if kind == "random" else hierarchical_codes(x, k, levels, 0, kind, 4)
    assert codes.shape == (n, levels)
    assert_unique_and_balanced(codes, k)


@pytest.mark.parametrize("second_level", ["local", "aligned"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_both_sources_are_unique_each(second_level: str, levels: int) -> None:
    index = build_index(both(50), IndexConfig(levels=levels, second_level=second_level, pca=4, iterations=4), 3)
    assert index.columns == tuple(f"{letter}{level}" for letter in "sb" for level in range(1, levels + 1))
    assert index.codes.dtype == np.int32 and index.sources == ("semantic", "behaviour")
    for source in index.sources:
        assert_unique_and_balanced(index.source_codes(source), index.codes_per_level)


@pytest.mark.parametrize("bad", ["zeros", "equal", "two points", "one dimension"])
def test_items_that_are_all_alike_still_get_unique_codes(bad: str) -> None:
    x = {
        "zeros": np.zeros((60, 4)), "equal": np.full((60, 4), 3.7), "one dimension": np.ones((60, 1)),
        "two points": np.repeat([[0.0, 1.0], [1.0, 0.0]], [55, 5], axis=0),
    }[bad].astype(np.float32)  # fmt: skip
    for second_level in ("local", "aligned"):
        index = build_index({"semantic": x}, IndexConfig(source="semantic", second_level=second_level), 0)
        assert_unique_and_balanced(index.codes, 8)
        assert all(np.isfinite(c).all() for c in index.centroids.values())


def test_fewer_items_than_codes() -> None:
    index = build_index(both(5), IndexConfig(codes=16), 0)
    assert_unique_and_balanced(index.source_codes("semantic"), 16)
    assert index.centroids["s1"].shape == (16, 12)


def test_the_same_seed_gives_the_same_bytes_and_the_seed_matters() -> None:
    config = IndexConfig(pca=4)
    first, second, other = (build_index(both(80), config, seed) for seed in (1, 1, 2))
    assert first.codes.tobytes() == second.codes.tobytes()
    assert all(first.centroids[c].tobytes() == second.centroids[c].tobytes() for c in first.columns)
    assert (first.codes != other.codes).any()


def test_a_source_does_not_depend_on_the_other() -> None:
    one, two = both(40), both(40) | {"behaviour": blobs(40, 3, 7, 9)[0]}
    first, second = (build_index(e, IndexConfig(), 1) for e in (one, two))
    np.testing.assert_array_equal(first.source_codes("semantic"), second.source_codes("semantic"))
    assert (first.source_codes("behaviour") != second.source_codes("behaviour")).any()


def test_a_random_index_has_the_tree_of_a_learned_one() -> None:
    x = np.random.default_rng(0).normal(size=(100, 4))
    drawn, learned = random_codes(100, 12, 2, 0), hierarchical_codes(x, 12, 2, 0)
    assert sorted(Counter(drawn[:, 0]).values()) == sorted(Counter(learned[:, 0]).values())
    assert (random_codes(100, 12, 2, 1) != drawn).any()
    index = build_index({"semantic": x}, IndexConfig(source="random", levels=3), 0)
    assert index.columns == ("r1", "r2", "r3") and index.centroids == {}


# --- meaning ----------------------------------------------------------------------------------------------------------


def test_the_first_level_finds_blobs_and_the_second_aligns_what_repeats() -> None:
    """Items are (blob, variant), each blob lacks two variants: s1 should be the blob, s2 the variant in every blob."""
    rng = np.random.default_rng(0)
    blob, variant = np.divmod(np.arange(36), 6)
    there = (variant - blob) % 6 >= 2
    blob, variant = blob[there], variant[there]
    x = 10 * np.eye(6)[blob] @ rng.normal(size=(6, 12)) + np.eye(6)[variant] @ rng.normal(size=(6, 12))
    x += 0.01 * rng.normal(size=x.shape)
    aligned, local = (hierarchical_codes(x, 6, 2, 0, kind) for kind in ("aligned", "local"))
    for codes in (aligned, local):
        assert len(set(zip(blob, codes[:, 0], strict=True))) == 6
    agreement = [np.mean([Counter(codes[variant == v, 1]).most_common(1)[0][1] / 4 for v in range(6)])
                 for codes in (aligned, local)]  # fmt: skip
    assert agreement[0] > 0.9 > 0.8 > agreement[1]


def test_aligned_codes_are_the_cheapest_distinct_codewords() -> None:
    """Within each group, hardly any other choice of distinct codewords is cheaper, and codewords are means."""
    rng = np.random.default_rng(1)
    residual, group = rng.normal(size=(24, 3)), np.repeat(np.arange(4), 6)
    codes, codebook = aligned_codes(residual, group, 8, seed=0)
    np.testing.assert_allclose(codebook, [residual[codes == c].mean(0) for c in range(8)], atol=1e-12)
    spent = ((residual - codebook[codes]) ** 2).sum()
    least = 0.0
    for number in range(4):
        cost = cdist(residual[group == number], codebook, "sqeuclidean")
        least += cost[linear_sum_assignment(cost)].sum()
        assert len(set(codes[group == number])) == 6
    assert least <= spent + 1e-12 <= 1.1 * least  # alternation has all but settled


def test_the_drawn_codebook_ties_each_residual_to_its_word() -> None:
    rng, cluster = np.random.default_rng(0), np.repeat([0, 1, 2], 3)
    points, means = rng.normal(size=(9, 2)), rng.normal(size=(3, 2))
    residual = points - means[cluster]
    codes, codebook = aligned_codes(residual, cluster, 3, 0)
    panels = figures.aligned_codebook(points, cluster, means, codes, codebook).axes
    solid = [line.get_xydata() for line in panels[2].lines if line.get_linestyle() == "-"]
    assert np.allclose(solid, np.stack([residual, codebook[codes]], axis=1))
    moved = np.flatnonzero(cdist(residual, codebook).argmin(1) != codes)
    dashed = [line.get_xydata()[0] for line in panels[2].lines if line.get_linestyle() == "--"]  # type: ignore[index]
    assert len(moved) and np.allclose(dashed, residual[moved]), "this toy has items that cannot have their nearest word"
    assert [text.get_text() for text in panels[1].texts] == ["0", "1", "2"]
    plt.close("all")


def test_sizes_are_drawn_largest_first_under_the_name_they_are_given() -> None:
    axes = figures.cluster_sizes(np.array([1, 5, 0]), np.array([2, 1, 3]), 4, "random codes").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [5, 1, 0]  # type: ignore[attr-defined]
    assert axes.lines[0].get_label() == "random codes" and list(axes.lines[0].get_ydata()) == [3, 2, 1]
    plt.close("all")


def test_a_codebook_learned_from_some_groups_is_nearly_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    residual, group = rng.normal(size=(400, 3)), np.arange(400) % 40
    spent = []
    for learners in (400, 200):
        monkeypatch.setattr("recnb.index.build.LEARNERS", learners)
        codes, codebook = aligned_codes(residual, group, 12, seed=0)
        assert all(len(set(codes[group == number])) == 10 for number in range(40))
        np.testing.assert_allclose(codebook, [residual[codes == c].mean(0) for c in range(12)], atol=1e-12)
        spent.append(((residual - codebook[codes]) ** 2).sum())
    assert spent[1] < 1.1 * spent[0]


def test_local_codes_lie_along_the_own_axis_and_use_all_codes() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) * [9.0, 1.0, 1.0]
    group = np.arange(60) % 10
    codes = local_codes(x, group, 9, seed=0)
    for number in range(10):
        members = np.flatnonzero(group == number)
        ranks = np.corrcoef(x[members, 0].argsort().argsort(), codes[members].argsort().argsort())[0, 1]
        assert abs(ranks) > 0.8
    assert set(codes) == set(range(9)), "six items per group, yet all nine codes are in use"


def test_where_codes_suffice_k_means_parts_items_as_local_codes_do() -> None:
    """Each item is its own centroid, whoever clusters; the numbers of the leaves are their seeds' and no more."""
    x, group = np.random.default_rng(3).normal(size=(42, 3)), np.repeat(np.arange(4), [6, 6, 6, 24])
    codes = local_codes(x, group, 8, seed=0)
    for number in range(3):
        runs = [KMeans(6, n_init=1, random_state=seed).fit(x[group == number]) for seed in (0, 1)]
        assert [round(run.inertia_, 12) for run in runs] == [0, 0]
        assert [len(set(labels)) for labels in (codes[group == number], *(run.labels_ for run in runs))] == [6, 6, 6]
        assert (runs[0].labels_ != runs[1].labels_).any()
    assert (np.bincount(codes[group == 3], minlength=8) == 3).all(), "more items than codes are clustered"


def test_centroids_are_means_and_mean_residuals() -> None:
    x, codes = blobs(30, 5)[0], random_codes(30, 6, 3, 0)
    one, two, three = code_centroids(x, codes, 7)
    for code in range(6):
        np.testing.assert_allclose(one[code], x[codes[:, 0] == code].mean(0), rtol=1e-5, atol=1e-6)
    rest = x - one[codes[:, 0]] - two[codes[:, 1]]
    for code in range(6):
        np.testing.assert_allclose(three[code], rest[codes[:, 2] == code].mean(0), rtol=1e-4, atol=1e-6)
    assert not one[6].any() and one.dtype == np.float32


# --- recipe and bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "levels", "k"), [
    (1682, 2, 42), (1764, 2, 42), (1765, 2, 43), (12101, 2, 111), (27, 3, 3), (28, 3, 4), (7, 1, 7), (1, 2, 2),
    (10**6, 6, 10),
])  # fmt: skip
def test_auto_is_the_smallest_that_fits(n: int, levels: int, k: int) -> None:
    assert codes_per_level(n, IndexConfig(levels=levels)) == k
    assert k**levels >= n and (k == 2 or (k - 1) ** levels < n)


def test_more_items_than_codes_says_what_fits() -> None:
    with pytest.raises(IndexGateError, match=r"3\^2 = 9 codes for 50 items.*codes >= 8 with 2.*levels >= 4 with 3"):
        build_index(both(50), IndexConfig(codes=3), 0)


def test_order_is_the_recipes() -> None:
    plain = build_index(both(40), IndexConfig(), 0)
    mixed = build_index(both(40), IndexConfig(order=["s1", "b1", "s2", "b2"]), 0)
    assert mixed.columns == ("s1", "b1", "s2", "b2")
    np.testing.assert_array_equal(mixed.codes, plain.codes[:, [0, 2, 1, 3]])
    np.testing.assert_array_equal(mixed.source_codes("behaviour"), plain.source_codes("behaviour"))


@pytest.mark.parametrize(("order", "says"), [
    (["s1", "s2", "b1", "c2"], "'c2' is unknown"), (["s1", "s2", "b1"], "'b2' is missing"),
    (["s1", "s1", "s2", "b1", "b2"], "given twice"),
])  # fmt: skip
def test_a_wrong_order_is_refused(order: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=rf"{says}.*expected each of \[s1, s2, b1, b2\] once"):
        build_index(both(20), IndexConfig(order=order), 0)


def test_bad_embeddings_are_refused() -> None:
    good = both(20)
    broken = good | {"behaviour": good["behaviour"].copy()}
    broken["behaviour"][[3, 7], 1] = [np.nan, np.inf]
    for embeddings, says in [
        (broken, "behaviour embeddings: 2 of 20 rows are not finite .first: item 3"),
        ({"semantic": good["semantic"]}, "needs 'behaviour' embeddings; given: semantic"),
        (good | {"semantic": good["semantic"][:19]}, "differ in their number of items.*19.*20"),
        (good | {"semantic": np.zeros((0, 4))}, r"semantic embeddings have shape \(0, 4\)"),
    ]:
        with pytest.raises(IndexGateError, match=says):
            build_index(embeddings, IndexConfig(), 0)


def test_codes_and_columns_must_fit() -> None:
    with pytest.raises(ArtifactError, match=r"shape \(3, 2\), expected \(N, 1\)"):
        ItemIndex(np.zeros((3, 2), np.int32), ("s1",), 4)
    with pytest.raises(ArtifactError, match="from 0 to 5, expected 0 to 3"):
        ItemIndex(np.array([[0], [5]], np.int32), ("s1",), 4)


# --- health -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report() -> tuple[ItemIndex, dict[str, np.ndarray], list[list[str]], dict[str, Any]]:
    semantic, truth = blobs(60, 6, noise=0.02)
    embeddings = {"semantic": semantic, "behaviour": np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)}
    categories = [["all", f"group {g}"] for g in truth]
    index = build_index(embeddings, IndexConfig(codes=12), 0)
    return index, embeddings, categories, health.index_health(index, embeddings, categories, seed=0, neighbours=4)


def test_health_tells_structure_from_noise(report: tuple[Any, ...]) -> None:
    found = report[3]
    assert found["unique"] == 1 and found["unique_by_source"] == {"semantic": 1, "behaviour": 1}
    assert found["columns"]["s1"]["purity"] > 0.95 > 0.6 > found["columns"]["b1"]["purity"]
    assert abs(found["columns"]["b1"]["purity"] - found["columns"]["b1"]["purity_chance"]) < 0.15
    near = found["neighbours"]
    assert near["semantic"]["s1"]["share"] > 4 * near["semantic"]["s1"]["chance"]
    assert near["semantic"]["b1"]["share"] < 2.5 * near["semantic"]["b1"]["chance"]
    first, second = found["explained"]["semantic"]
    assert 0.9 < first <= second <= 1


def test_neighbour_numbers_against_sklearn(report: tuple[Any, ...]) -> None:
    index, embeddings, _, found = report
    near = NearestNeighbors(n_neighbors=5).fit(embeddings["behaviour"]).kneighbors(return_distance=False)[:, :4]
    labels = index.column("b1")
    assert found["neighbours"]["behaviour"]["b1"]["share"] == pytest.approx((labels[near] == labels[:, None]).mean())
    pairs = [labels[i] == labels[j] for i in range(60) for j in range(60) if i != j]
    assert found["neighbours"]["behaviour"]["b1"]["chance"] == pytest.approx(np.mean(pairs))


def test_purity_against_counting(report: tuple[Any, ...]) -> None:
    index, _, categories, found = report
    own = [[c for c in names if c != "all"] for names in categories]  # "all" is too common to count
    hits = sum(max(Counter(c for i in np.flatnonzero(index.column("s2") == code) for c in own[i]).values())
               for code in np.unique(index.column("s2")))  # fmt: skip
    assert found["columns"]["s2"]["purity"] == pytest.approx(hits / 60)


def test_purity_skips_items_without_categories() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    assert health.category_purity(labels, [["a"], ["a", "a"], [], ["b"], ["c"]], 0)["purity"] == pytest.approx(3 / 4)
    assert health.category_purity(labels, [[]] * 5, 0) == {"purity": None, "purity_chance": None}
    assert health.category_purity(labels, [["all"]] * 5, 0)["purity"] is None


def test_branching_against_sets(report: tuple[Any, ...]) -> None:
    index, found = report[0], report[3]
    rows = [tuple(row) for row in index.codes.tolist()]
    for depth, level in enumerate(found["branching"], start=1):
        nodes = {row[:depth] for row in rows}
        children = Counter(node[:-1] for node in nodes)
        assert level["nodes"] == len(nodes)
        assert level["most"] == max(children.values())
        assert level["mean"] == pytest.approx(len(nodes) / len(children))
    assert found["branching"][-1]["nodes"] == 60 and found["branching"][2]["most"] == 1, "the tail is forced"


def test_usage_of_a_hand_made_column() -> None:
    usage = health.column_usage(np.array([0, 0, 1, 1, 3, 3]), 4)
    assert usage == {"usage": 0.75, "dead": 1, "entropy": pytest.approx(np.log(3) / np.log(4)),
                     "smallest": 2, "median": 2.0, "largest": 2}  # fmt: skip
    assert health.column_usage(np.zeros(5, int), 4)["entropy"] == 0


def test_compression_counts_bits(report: tuple[Any, ...]) -> None:
    size = report[3]["compression"]
    assert size["bits"] == pytest.approx(4 * np.log2(12))
    assert size["ratio"] == pytest.approx(32 * (8 + 5) / size["bits"])
    assert size["tokens"] == 48 and size["items_per_token"] == pytest.approx(60 / 48)


def test_the_gate_opens_and_closes(report: tuple[Any, ...]) -> None:
    index, embeddings, categories, found = report
    health.check_gate(found, GateConfig())
    wasteful = build_index(embeddings, IndexConfig(codes=200), 0)
    poor = health.index_health(wasteful, embeddings, categories, seed=0)
    with pytest.raises(IndexGateError, match=r"(?s)min_usage = 0.5: column s2 uses 0.005 of its 200.*'auto'"):
        health.check_gate(poor, GateConfig())
    collapsed = ItemIndex(np.zeros_like(index.codes), index.columns, 12)
    dead = health.index_health(collapsed, {}, categories, seed=0)
    with pytest.raises(IndexGateError, match="(?s)min_unique = 1.0: only 0.000.*min_usage.*min_entropy"):
        health.check_gate(dead, GateConfig())


def test_health_of_one_item_and_of_constant_embeddings() -> None:
    for n in (1, 2, 9):
        x = {"semantic": np.ones((n, 3), np.float32)}
        index = build_index(x, IndexConfig(source="semantic"), 0)
        assert health.index_health(index, x, [[]] * n, seed=0)["unique"] == 1


# --- artifacts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """03_index, opened on two input stages that hold nothing."""
    monkeypatch.setattr(EagerLLM, "stages", FREE_STAGES)
    for name in ("01_data", "02_embeddings"):
        Stage.open(name, ROOT / "params" / "toy.yaml", root=tmp_path).close()
    return Stage.open("03_index", ROOT / "params" / "toy.yaml", root=tmp_path)


@pytest.mark.parametrize("source", ["both", "random"])
def test_an_index_survives_its_artifacts(stage: Stage, source: str) -> None:
    index = build_index(both(30), IndexConfig(source=source), 0)
    write_index(index, stage, {"unique": 1.0})
    again = read_index(stage)
    np.testing.assert_array_equal(again.codes, index.codes)
    assert (again.columns, again.codes_per_level) == (index.columns, index.codes_per_level)
    assert again.centroids.keys() == index.centroids.keys()
    assert all(np.array_equal(again.centroids[c], index.centroids[c]) for c in index.centroids)
    assert stage.read("03_index", "index.json")["health"] == {"unique": 1.0}


def test_artifacts_that_do_not_fit_are_refused(stage: Stage) -> None:
    write_index(build_index(both(30), IndexConfig(), 0), stage)
    stage.write("codes.npy", np.zeros((29, 4), np.int32))
    with pytest.raises(ArtifactError, match="29 items, index.json says 30; run 03_index again"):
        read_index(stage)
