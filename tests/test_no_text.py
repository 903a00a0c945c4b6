"""A catalogue of which nobody wrote a word: from two files and a published index to ranked lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from sandbox import STAGES, new_sandbox, walk
from small import BACKBONE, T, runtime

from recnb.data.schema import titles_of
from recnb.data.settings import DataConfig
from recnb.data.sources import load_dataset
from recnb.data.split import Validation, histories, training_sequences
from recnb.eager_llm.model import Recommender
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.eager_llm.recipe import TasksConfig, TrainConfig
from recnb.eager_llm.tasks import ItemText, TaskBuilder, tokenizer_texts
from recnb.eager_llm.train import fit
from recnb.embeddings.behaviour import embed_behaviour
from recnb.embeddings.settings import BehaviourConfig
from recnb.index.build import build_index
from recnb.index.published import find_codes, read_codes
from recnb.index.settings import IndexConfig
from recnb.index.trie import Trie
from recnb.llm.backbone import build_backbone, build_tokenizer, initialise_tokens
from recnb.llm.beam import recommend
from recnb.llm.settings import DecodeConfig
from recnb.llm.vocabulary import Vocabulary

ITEMS, USERS = 24, 30
SETTINGS = {
    "data": {"source": "files", "path": "data/silent", "without_text": "id", "max_history": T},
    "embeddings": {"semantic": {"encoder": "none"}, "behaviour": {"width": 8, "window": 6, "epochs": 1, "negatives": 10}},
    "index": {"semantic_file": "semantic_index.json", "pca": 4, "gate": {"min_usage": 0.2, "min_entropy": 0.3}},
    "tasks": {"mixture": {"seqrec": 1.0}, "templates": 2},
    "train": {"lambda_semantic": 0, "epochs": 1, "negatives": 24, "batch_size": 16, "validation_users": 10},
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a silent catalogue; two of its items share a published code."""
    folder, rng = tmp_path / "data" / "silent", np.random.default_rng(0)
    folder.mkdir(parents=True)
    walks = [rng.permutation(ITEMS)[: rng.integers(5, 12)] for _ in range(USERS)]
    rows = [f"u{u},i{item},{place}" for u, walk in enumerate(walks) for place, item in enumerate(walk)]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,order", *rows]) + "\n", encoding="utf-8")
    silent = [{"item_id": f"i{i}", "title": "", "brand": "", "categories": []} for i in range(ITEMS)]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in silent), encoding="utf-8")
    codes = {f"i{i}": [f"<a_{i // 5}>", f"<b_{max(i, 1) % 5}>"] for i in range(ITEMS)}
    (folder / "semantic_index.json").write_text(json.dumps(codes), encoding="utf-8")
    return tmp_path


def test_from_files_to_lists(root: Path) -> None:
    data, config = DataConfig(**SETTINGS["data"]), IndexConfig(semantic_file="semantic_index.json", pca=4)
    dataset = load_dataset(data, root, 0)
    assert titles_of(dataset.items)[0] == "item i0" and dataset.provenance["items_without_text"]["items"] == ITEMS
    train = training_sequences(dataset)
    behaviour, _ = embed_behaviour(train, ITEMS, BehaviourConfig(**SETTINGS["embeddings"]["behaviour"]), 0)
    published = read_codes(find_codes("semantic_index.json", data.path, root), dataset.items["item_id"].tolist())
    index = build_index({"behaviour": behaviour}, config, 0, published)
    tasks, settings = TasksConfig(**SETTINGS["tasks"]), TrainConfig(**SETTINGS["train"])
    vocabulary = Vocabulary.build(
        build_tokenizer(BACKBONE, tokenizer_texts(dataset.items)), index.columns, index.codes, index.codes_per_level
    )
    model = build_backbone(BACKBONE, vocabulary, 0)
    initialise_tokens(model, vocabulary, index.centroids, 0)
    recommender = Recommender(model, {"behaviour": behaviour}, {"behaviour": 0.1})
    builder = TaskBuilder(vocabulary, ItemText.build(dataset.items, vocabulary, tasks, 0), train, tasks, T, True, False, 0)
    decode, shown = DecodeConfig(beam=10), histories(dataset, "test", T)[0]
    fit(recommender, builder, Validation(*histories(dataset, "valid", T)), settings, decode, runtime(),
        root / "checkpoints")  # fmt: skip
    lists, _ = recommend(model, seqrec_prompts(vocabulary, shown, tasks), Trie.from_tokens(vocabulary.item_tokens), decode)
    assert all(len(set(row)) == 10 for row in lists.tolist())


@pytest.mark.e2e
@pytest.mark.slow
def test_the_notebooks_say_that_there_is_no_text(root: Path) -> None:
    new_sandbox(root)
    tree = yaml.safe_load((root / "params" / "toy.yaml").read_text(encoding="utf-8"))
    tree |= {"name": "silent", "speed": {"enabled": False}} | SETTINGS
    tree["evaluate"] |= {"baselines": ["popularity", "sasrec"], "fusion": {"partners": ["repeats"], "users": 10}}
    (root / "params" / "silent.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    stages = [name for name in STAGES if name <= "08"] + ["08_prefix_map"]
    shown = {key.partition(",")[2]: said for key, said in walk(root, ",".join(["params/silent.yaml", *stages])).items()}
    for stage in ("01_data", "02_embeddings", "04_train", "07_case_studies"):
        assert "no text in this catalogue" in shown[stage].lower(), stage
    assert all("no categories in this catalogue" in shown[stage].lower() for stage in ("03_index", "08_prefix_map"))
    assert "embedded no text" in shown["08_prefix_map"]
    assert not (root / "runs" / "silent" / "02_embeddings" / "semantic.npy").exists()
    cases = json.loads((root / "runs" / "silent" / "07_case_studies" / "cases.json").read_text(encoding="utf-8"))
    assert cases["queries"] == [] and cases["items"] == [] and cases["summary"]["recovery"] == {}
