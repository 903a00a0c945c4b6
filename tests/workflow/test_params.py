"""The shipped recipes: valid, uniquely named, honest about where each published setting comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from sandbox import ROOT

from recnb.eager_llm.recipe import EagerLLM as Recipe
from recnb.workflow.recipe import load_recipe, valid_keys

PAPER = sorted((ROOT / "params" / "paper").glob("*.yaml"))
AMAZON = sorted((ROOT / "params" / "amazon").glob("*.yaml"))
COMPARISONS = sorted((ROOT / "params" / "ablations").glob("*.yaml"))
TABLES = sorted((ROOT / "params" / "tables").glob("*.yaml"))
RECIPES = sorted(set((ROOT / "params").rglob("*.yaml")) - {*COMPARISONS, *TABLES})  # whatever folder comes next counts
MARK = re.compile(r"#.*\[(P|R|\?|ours)\]")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=RECIPES, ids=name_of)
def recipe_file(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_promised_recipes_are_here() -> None:
    names = {name_of(path) for path in RECIPES}
    assert {f"params/{n}.yaml" for n in ("quickstart", "toy", "gemma", "beauty")} <= names
    assert {f"params/paper/llama7b-{n}.yaml" for n in ("beauty", "sports", "instruments")} <= names
    kinds = {"beauty": "gemma llama lcrec p5", "sports": "gemma llama lcrec p5", "instruments": "gemma llama p5"}
    assert {f"params/amazon/{n}-{kind}.yaml" for n, own in kinds.items() for kind in own.split()} <= names


def test_validates(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    folder = recipe_file.parent.name
    named = f"{folder}-{recipe_file.stem}" if folder == recipe.system else recipe_file.stem
    assert recipe.name == named, "a recipe is named like its file, so runs/ and reports/ are easy to find"
    assert recipe.title, "the report needs a title"


def test_names_are_unique() -> None:
    names = [load_recipe(path).name for path in RECIPES]
    assert len(set(names)) == len(names)


def test_says_why(recipe_file: Path) -> None:
    first = recipe_file.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 20, "the first line of a recipe says what it is for"


def test_no_place_on_some_machine(recipe_file: Path) -> None:
    tree = yaml.safe_load(recipe_file.read_text(encoding="utf-8"))
    strings = [str(value) for value in leaves(tree).values()]
    assert not [text for text in strings if text.startswith(("/", "~", "..")) or "://" in text]


def leaves(tree: object, prefix: str = "") -> dict[str, object]:
    """Dotted key -> value of every leaf."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {key: value for name, node in tree.items() for key, value in leaves(node, f"{prefix}.{name}").items()}


@pytest.mark.parametrize("path", PAPER, ids=name_of)
def test_every_published_setting_is_cited_on_its_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if re.match(r"\s*[a-z_0-9]+:\s*[^\s#]", line)]
    assert len(settings) == len(leaves(yaml.safe_load(path.read_text(encoding="utf-8")))), "one setting per line"
    uncited = [line.strip() for line in settings if not MARK.search(line)]
    assert not uncited


@pytest.mark.parametrize("path", PAPER, ids=name_of)
def test_the_published_settings_are_the_published_ones(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.runtime.require_gpu and recipe.backbone.kind == "pretrained"
    assert recipe.backbone.model == recipe.embeddings.semantic.model != ""
    assert recipe.train.batch_size * recipe.train.accumulate * 4 == 128, "four GPUs"
    published = {
        "seed": 42, "train.learning_rate": 5e-5, "train.epochs": 3, "train.warmup": 0.01, "train.weight_decay": 0.01,
        "train.schedule": "cosine", "train.temperature": 0.1, "train.lambda_semantic": 0.1,
        "train.lambda_behaviour": 0.1, "train.negatives": 2048, "train.expand": "per_target",
        "anneal.rank": 8, "anneal.alpha": 32, "anneal.dropout": 0.05, "anneal.epochs": 1, "anneal.select": "all",
        "anneal.learning_rate": 5e-5, "index.codes": 256, "index.levels": 2, "index.source": "both",
        "data.max_history": 20, "decode.beam": 20, "decode.normalisation": "full",
        "embeddings.behaviour.encoder": "din", "embeddings.behaviour.width": 1024,
    }  # fmt: skip
    assert {key: value_at(recipe, key) for key in published} == published


@pytest.mark.parametrize("path", AMAZON, ids=name_of)
def test_the_amazon_recipes_are_what_their_names_say(path: Path) -> None:
    recipe, (data, kind) = load_recipe(path), path.stem.split("-")
    ours = kind in ("gemma", "llama")
    contrast = (recipe.train.lambda_semantic, recipe.train.lambda_behaviour)
    with_text = 0.1 if data != "instruments" else 0.0
    assert recipe.data.path == f"data/{data}" == f"data/{recipe.evaluate.published}"
    assert recipe.index.source == {"lcrec": "semantic", "p5": "random"}.get(kind, "both")
    assert contrast == ((with_text, 0.1) if ours else (0, 0)) and recipe.anneal.enabled == ours
    assert recipe.index.codes == 256 and recipe.train.expand == "dense" and recipe.decode.beam == 20
    assert recipe.backbone.kind == ("pretrained" if kind == "gemma" else "scratch")
    if kind == "gemma" and data != "instruments":
        assert recipe.embeddings.semantic.model == recipe.backbone.model, "as the paper, the backbone embeds the items"


@pytest.mark.parametrize("path", AMAZON, ids=name_of)
def test_the_amazon_recipes_share_data_backbone_and_evaluation(path: Path) -> None:
    """What is compared differs in the method alone: the same data, backbone, lists and baselines."""
    recipe, (data, kind) = load_recipe(path), path.stem.split("-")
    sister = load_recipe(ROOT / "params" / "amazon" / f"{data}-llama.yaml")
    assert recipe.data == sister.data and recipe.decode.beam == sister.decode.beam
    same = {"baselines": [], "fusion": sister.evaluate.fusion}  # the mixture is ours alone
    assert recipe.evaluate.model_copy(update=same) == sister.evaluate.model_copy(update=same)
    lists = {"tiger"} if recipe.index.source == "random" else set()  # no semantic codes, no TIGER
    assert set(sister.evaluate.baselines) - set(recipe.evaluate.baselines) == lists
    if kind != "gemma":
        assert (recipe.backbone, recipe.embeddings) == (sister.backbone, sister.embeddings)
    if data != "instruments":
        assert sister.backbone == load_recipe(ROOT / "params" / "beauty.yaml").backbone


def value_at(recipe: Recipe, key: str) -> object:
    node: object = recipe
    for part in key.split("."):
        node = getattr(node, part)
    return node


def test_published_rows_exist_for_the_recipes_that_ask_for_them() -> None:
    from recnb.studies.ledger import read_published

    asking = {path: recipe for path in RECIPES if (recipe := load_recipe(path)).published}
    assert set(PAPER) <= set(asking)
    for path, recipe in asking.items():
        rows, key = read_published(recipe.published, recipe.wing), recipe.published
        assert rows and rows.target in {row.system for row in rows.rows}, f"{path.name}: nothing published on '{key}'"


@pytest.mark.parametrize("path", COMPARISONS, ids=name_of)
def test_every_variant_of_a_comparison_is_a_valid_recipe(path: Path) -> None:
    from recnb.studies.comparisons import Comparison

    comparison = Comparison.read(path)
    recipes = [load_recipe(ROOT / comparison.base, variant.changes) for variant in comparison.variants.values()]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(recipes), "two variants are the same"


def test_the_quickstart_needs_nothing_but_the_default_environment() -> None:
    recipe = load_recipe(ROOT / "params" / "quickstart.yaml")
    assert recipe.data.source == "movielens-100k" and recipe.data.path is None
    assert recipe.runtime.device == "cpu" and not recipe.runtime.require_gpu
    assert recipe.backbone.kind == "scratch"
    package = recipe.embeddings.semantic.model.removeprefix("package:").replace("_", "-")
    assert re.search(rf"^{re.escape(package)}==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)


def test_the_gemma_package_is_the_extra_that_make_gemma_installs() -> None:
    recipe = load_recipe(ROOT / "params" / "gemma.yaml")
    package = recipe.backbone.model.removeprefix("package:").replace("_", "-")
    assert f'"{package}==' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "'.[gemma]'" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_toy_recipe_is_tiny() -> None:
    recipe = load_recipe(ROOT / "params" / "toy.yaml")
    assert recipe.data.source == "toy" and recipe.data.toy.users * recipe.data.toy.length <= 2000
    assert recipe.decode.beam <= recipe.data.toy.items


def test_every_recipe_key_is_a_documented_key() -> None:
    for path in RECIPES:
        known = set(valid_keys(type(load_recipe(path))))
        for key in leaves(yaml.safe_load(path.read_text(encoding="utf-8"))):
            assert any(key[1:] == k or key[1:].startswith(k + ".") for k in known), f"{name_of(path)}: {key}"


def test_the_benchmarks_run_on_the_quickstart_s_own_settings() -> None:
    ours, quickstart = (load_recipe(ROOT / "params" / f"{n}.yaml").model_dump() for n in ("speed", "quickstart"))
    assert {key for key in ours if ours[key] != quickstart[key]} == {"name", "title", "speed", "ablations"}
    assert ours["speed"]["enabled"] and not quickstart["speed"]["enabled"] and ours["speed"]["rounds"] >= 5
