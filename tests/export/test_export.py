"""A model to take away: the same lists and scores as the run's, whole or not at all, and no place of this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sandbox import TOY, ToyRun
from small import BACKBONE, TASKS, K, N, T, catalogue, codes, recommender, vocabulary
from transformers import AutoModelForCausalLM, AutoTokenizer

from recnb import cli
from recnb.eager_llm.checkpoint import load_trained, read_model, save_model
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.eager_llm.recipe import AnnealConfig, EagerLLM as Recipe
from recnb.errors import ArtifactError, RecnbError, ResourceError
from recnb.export import card, write
from recnb.export.folder import check_target
from recnb.export.load import as_json, as_table, load_export
from recnb.export.write import export_model, inference_settings, write_export
from recnb.index.trie import Trie
from recnb.llm.beam import recommend
from recnb.llm.lora import add_adapter, save_adapter
from recnb.llm.score import score_items
from recnb.runtime import Runtime
from recnb.workflow.recipe import load_recipe

VOCABULARY = vocabulary()
RECIPE = Recipe.model_validate({
    "name": "small", "data": {"max_history": T}, "tasks": TASKS.model_dump(),
    "decode": {"beam": 10, "batch_size": 3}, "evaluate": {"cutoffs": [5]},
})  # fmt: skip
IDS = catalogue()["item_id"].tolist()
HISTORIES = [["i3"], ["i1", "i2", "i1"], [f"i{i}" for i in range(9)], ["i0", "i7", "i5", "i19"], ["i4", "i3"]]


def about(adapter: bool = False, chosen: bool = False, **changes) -> dict:
    return {
        "name": "small", "title": "", "recipe_hash": "0" * 16, "seed": 0, "commit": "abc", "dtype": "float32",
        "recnb": "0", "versions": {}, "inference": inference_settings(RECIPE, adapter, chosen),
        "index": {"columns": ["s1", "s2", "b1", "b2"], "codes": K, "source": "both"},
        "data": {"name": "few", "users": 15, "items": N, "interactions": 99, "source": "toy", "licence": "ours",
                 "sha256": None, "artifacts": {}},
        "training": {"backbone": "", "base_model": "", "parameters": 9, "steps": 1, "seconds": 1.0, "device": "cpu",
                     "tasks": ["seqrec"], "epochs": 1, "contrast": {"semantic": 0.1, "behaviour": 0.1},
                     "departures": []},
        "measured": None,
        **changes,
    }  # fmt: skip


def items(ids: list[str], titles: list[str]) -> list[dict]:
    return [{"item_id": i, "title": t, "codes": c} for i, t, c in zip(ids, titles, codes().tolist(), strict=True)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A saved model and an adapter that changes it."""
    folder = tmp_path_factory.mktemp("parts")
    base = recommender(VOCABULARY, BACKBONE)
    save_model(folder / "model", base, VOCABULARY, K)
    adapted = add_adapter(base.backbone, VOCABULARY, AnnealConfig(rank=2, alpha=4), 0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    save_adapter(adapted, folder / "adapter")
    return folder / "model", folder / "adapter"


def written(target: Path, parts: tuple[Path, Path], adapter: bool = False, chosen: bool = False, **changes) -> Path:
    titles = changes.pop("titles", catalogue()["title"].tolist())
    told = about(adapter, chosen, **changes)
    return write_export(target, parts[0], parts[1] if adapter else None, items(IDS, titles), told)


@pytest.fixture(scope="module")
def exported(parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("exports") / "small", parts, adapter=True, chosen=True)


# --- the same model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [True, False])
def test_an_export_gives_the_lists_and_scores_of_its_model(
    tmp_path: Path, parts: tuple[Path, Path], chosen: bool
) -> None:
    model, vocab = read_model(parts[0], codes(), parts[1] if chosen else None)
    shown = np.array([[-1] * (T - len(h[-T:])) + [IDS.index(i) for i in h[-T:]] for h in HISTORIES])
    items, scores = recommend(
        model, seqrec_prompts(vocab, shown, TASKS), Trie.from_tokens(vocab.item_tokens), RECIPE.decode
    )
    found = load_export(written(tmp_path / "e", parts, adapter=True, chosen=chosen)).recommend(HISTORIES, top=10)
    assert [[r.item_id for r in row] for row in found] == [[IDS[i] for i in row] for row in items]
    assert [[r.log_probability for r in row] for row in found] == scores.tolist()
    assert [r.place for r in found[0]] == list(range(1, 11))
    assert all(r.title == catalogue()["title"][IDS.index(r.item_id)] for row in found for r in row)


def test_scores_of_given_items_are_those_of_the_slow_twin(exported: Path) -> None:
    model = load_export(exported)
    asked = [["i3", "i0", "i19", "i7"], ["i1", "i2", "i3", "i4"], ["i5", "i6", "i8", "i9"]][: len(HISTORIES)]
    found = model.scores(HISTORIES[: len(asked)], asked)
    network, vocab, trie = model._loaded
    shown = [np.array([IDS.index(item) for item in history[-T:]]) for history in HISTORIES[: len(asked)]]
    whole = score_items(network, seqrec_prompts(vocab, shown, TASKS), trie)
    wanted = [[row[IDS.index(item)] for item in own] for row, own in zip(whole, asked, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    with pytest.raises(RecnbError, match="no item 'i99'"):
        model.scores([["i1"]], [["i99"]])


def test_the_adapter_that_validation_chose_is_in_force(
    tmp_path: Path, parts: tuple[Path, Path], exported: Path
) -> None:
    plain = load_export(written(tmp_path / "e", parts, adapter=True)).recommend(HISTORIES)
    assert plain == load_export(written(tmp_path / "f", parts)).recommend(HISTORIES)
    assert plain != load_export(exported).recommend(HISTORIES)


@pytest.mark.parametrize(("small", "expected"), [(10**9, torch.float32), (1, torch.bfloat16)])
def test_a_gpu_is_asked_in_the_dtype_of_the_run(
    tmp_path: Path, parts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, small: int, expected: torch.dtype
) -> None:
    """A run in bfloat16 evaluates a small model in float32: an export that did not would give other lists."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("recnb.eager_llm.checkpoint.SMALL", small)
    asked: list[tuple[str, torch.dtype]] = []

    def read(folder, codes, adapter=None, device="cpu", dtype=torch.float32):  # type: ignore[no-untyped-def]
        asked.append((device, dtype))
        return read_model(folder, codes, adapter, "cpu", dtype)

    monkeypatch.setattr("recnb.eager_llm.checkpoint.read_model", read)
    load_export(written(tmp_path / "e", parts, dtype="bfloat16"), "cuda").recommend(HISTORIES)
    there = {"codes.npy": codes(), "anneal.json": {"adapter": False}}
    run = SimpleNamespace(
        read=lambda stage, name: there[name], path=lambda stage, name: parts[0],
        runtime=Runtime("cuda", torch.bfloat16, 1, 0, False),
    )  # fmt: skip
    load_trained(run)
    assert asked == [("cuda", expected)] * 2


def test_con_before_the_answer_ends_the_prompt(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    settings = inference_settings(RECIPE, False, False)
    model, vocab = read_model(parts[0], codes())
    found = load_export(written(tmp_path / "e", parts, inference={**settings, "con_before": True})).recommend([["i3"]])
    prompts = seqrec_prompts(vocab, np.array([[3]]), TASKS, con_before=True)
    items, scores = recommend(model, prompts, Trie.from_tokens(vocab.item_tokens), RECIPE.decode)
    assert [(r.item_id, r.log_probability) for r in found[0]] == [(IDS[i], s) for i, s in zip(items[0], scores[0])]


def test_history_beam_and_top(exported: Path) -> None:
    model = load_export(exported)
    (ten,), (three,) = model.recommend([["i1", "i2"]]), model.recommend([["i1", "i2"]], top=3)
    assert three == ten[:3]
    (wide,) = model.recommend([["i1", "i2"]], top=N, beam=99)
    assert sorted(r.item_id for r in wide) == sorted(IDS), "a beam wider than the catalogue lists all of it"
    assert [r.log_probability for r in wide] == sorted((r.log_probability for r in wide), reverse=True)
    long = [f"i{i}" for i in range(N)]
    assert model.recommend([long]) == model.recommend([long[-T:]]), "the model sees the latest T"
    assert model.recommend([]) == []


def test_items_of_the_history_are_left_out(exported: Path) -> None:
    model = load_export(exported)
    for history in (["i1", "i2", "i1"], [f"i{i}" for i in range(15)]):
        (found,) = model.recommend([history], top=5, exclude_history=True)
        assert len(found) == 5 and not {r.item_id for r in found} & set(history)
    both = model.recommend([["i1"], [f"i{i}" for i in range(15)]], top=5, exclude_history=True)
    apart = [model.recommend([h], 5, exclude_history=True)[0] for h in (["i1"], [f"i{i}" for i in range(15)])]
    for one, other in zip(both, apart, strict=True):
        assert [r.item_id for r in one] == [r.item_id for r in other], "a list does not depend on its company"


def test_transformers_and_peft_read_the_folder(
    exported: Path, parts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel

    ids = torch.tensor(VOCABULARY.item_tokens[:4])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    assert torch.equal(model(input_ids=ids).logits, read_model(parts[0], codes())[0](input_ids=ids).logits)
    assert tokenizer.convert_tokens_to_ids(["<s1_0>", "<b2_3>"]) == [
        VOCABULARY.index_tokens[0, 0], VOCABULARY.index_tokens[3, 3]]  # fmt: skip
    expected = read_model(parts[0], codes(), parts[1])[0](input_ids=ids).logits
    assert torch.equal(PeftModel.from_pretrained(model, exported / "adapter").eval()(input_ids=ids).logits, expected)
    monkeypatch.chdir(exported / "adapter")  # where ".." is the backbone
    assert torch.equal(AutoPeftModelForCausalLM.from_pretrained(".").eval()(input_ids=ids).logits, expected)


# --- what is asked wrongly ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("history", "options", "expected"), [
    ([], {}, "history is empty"),
    ("i3", {}, "history is empty"),
    (["i3", "i99"], {}, "no item 'i99' among the 20 of .*; nearest: 'i9'"),
    (["i3"], {"top": 0}, "top 0, beam 10: expected at least 1"),
    (["i3"], {"top": 5, "beam": 0}, "top 5, beam 0: expected at least 1"),
    (["i3"], {"top": 11}, "top 11 is more than the beam of 10; expected top 10, or a beam of 11"),
    (["i3"], {"top": 21, "beam": 30}, "top 21 is more than the 20 items"),
    (["i3"], {"top": 20, "beam": 30, "exclude_history": True}, "top 20 is more than the 19 items .*valid: 19"),
])  # fmt: skip
def test_wrong_questions_are_refused_before_weights_are_read(
    exported: Path, monkeypatch: pytest.MonkeyPatch, history: list[str], options: dict, expected: str
) -> None:
    monkeypatch.setattr("recnb.eager_llm.checkpoint.read_model", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(RecnbError, match=expected):
        load_export(exported).recommend([history], **options)


def test_a_device_that_is_not_here(exported: Path) -> None:
    missing = next(name for name, there in (("cuda", torch.cuda.is_available()), ("mps", False)) if not there)
    with pytest.raises(ResourceError, match=f"device '{missing}': not usable here; expected cpu"):
        load_export(exported, missing).recommend([["i1"]])


def test_ids_with_commas_are_taken_whole(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    ids = ["a,b", "a", "b", *IDS[3:]]
    write_export(tmp_path / "e", parts[0], None, items(ids, ids), about())
    split = load_export(tmp_path / "e").split
    assert split(["a,b"]) == ["a,b"] and split(["b,a", "a,b"]) == ["b", "a", "a,b"]
    assert split([" a , b,"]) == ["a", "b"] and split([","]) == [] and split(["x,b"]) == ["x", "b"]


def test_what_is_no_export(tmp_path: Path, exported: Path, parts: tuple[Path, Path]) -> None:
    with pytest.raises(ArtifactError, match=r"smal: no such folder; nearest: 'small'; expected a folder that `recnb"):
        load_export(exported.parent / "smal")
    with pytest.raises(ArtifactError, match=r"not an export; expected .*items.jsonl and recnb.json"):
        load_export(parts[0])
    for content in ("[]", "{", '{"format": "other"}', '{"format": "recnb-export"}'):
        (tmp_path / "recnb.json").write_text(content)
        with pytest.raises(ArtifactError, match="not an export"):
            load_export(tmp_path)


def spoiled(exported: Path, folder: Path, **changes) -> Path:
    shutil.copytree(exported, folder)
    told = json.loads((folder / "recnb.json").read_text(encoding="utf-8")) | changes
    (folder / "recnb.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def test_an_export_of_another_time(tmp_path: Path, exported: Path) -> None:
    settings = inference_settings(RECIPE, True, True)
    with pytest.raises(ArtifactError, match="an export of version 2; this recnb reads version 1"):
        load_export(spoiled(exported, tmp_path / "a", version=2))
    with pytest.raises(ArtifactError, match="trained on the instruction 'Old: '.*commit abc"):
        load_export(spoiled(exported, tmp_path / "b", inference={**settings, "instruction": ["Old: ", ""]}))
    with pytest.raises(ArtifactError, match=r"recnb.json: inference.decode.beams: Extra inputs are not permitted; export again"):
        load_export(spoiled(exported, tmp_path / "c", inference={**settings, "decode": {"beams": 3}}))


@pytest.mark.parametrize("name", ["items.jsonl", "index.json", "model.safetensors", "adapter/adapter_config.json"])
def test_a_damaged_file_is_never_used(tmp_path: Path, exported: Path, name: str) -> None:
    folder = spoiled(exported, tmp_path / "e")
    (folder / name).write_bytes((folder / name).read_bytes()[:-2] + b" \n")
    with pytest.raises(ArtifactError, match=f"{name} does not match its checksum"):
        load_export(folder).recommend([["i3"]])
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is gone"):
        load_export(folder).recommend([["i3"]])


def test_looking_into_a_folder_loads_nothing_heavy(exported: Path) -> None:
    code = (
        f"import sys; from recnb import cli; code = cli.main(['recommend', '--model', {str(exported)!r}, '--history', 'x']); "
        "print(sorted({'torch', 'transformers', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no item 'x'" in done.stderr and done.stdout.strip() == "[]"


# --- where it is written ------------------------------------------------------------------------------------------------


def test_only_a_new_an_empty_and_an_earlier_export_are_written_to(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    check_target(tmp_path / "new" / "folder")
    check_target(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="file: is a file; expected a new folder"):
        check_target(tmp_path / "file")
    with pytest.raises(ArtifactError, match="not empty and not an export of ours"):
        check_target(tmp_path)
    folder = written(tmp_path / "e", parts, adapter=True)
    check_target(folder)
    (folder / "README.md").write_text("edited")
    written(folder, parts)
    assert not (folder / "adapter").exists() and "edited" not in (folder / "README.md").read_text()
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds files that no export wrote \(notes/mine.txt\); move them away"):
        check_target(folder)


def test_a_failed_export_leaves_the_earlier_one(
    tmp_path: Path, parts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "e", parts)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(write, "model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(folder, parts, adapter=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(ResourceError, match="cannot be written"):
        written(tmp_path / "file" / "e", parts)


def test_no_place_of_this_machine_goes_along(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    model, adapter = (shutil.copytree(part, tmp_path / part.name) for part in parts)
    for path, key in ((model / "config.json", "_name_or_path"), (model / "tokenizer_config.json", "name_or_path"),
                      (model / "tokenizer_config.json", "vocab_file"), (adapter / "adapter_config.json", "base_model_name_or_path")):  # fmt: skip
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: str(tmp_path)}))
    folder = write_export(tmp_path / "e", model, adapter, items(IDS, IDS), about(True, True))
    assert not [p for p in folder.rglob("*") if p.is_file() and str(tmp_path).encode() in p.read_bytes()]
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == ".."
    assert not (folder / "projectors.safetensors").exists()
    assert load_export(folder).recommend([["i3"]])


@pytest.mark.parametrize(("model", "told"), [
    ("", ("", "")),
    ("package:gemma", ("package:gemma", "")),
    ("org/name@main", ("org/name@main", "org/name")),
    ("/models/mine", ("mine", "")),
    ("models/mine.gguf", ("mine.gguf", "")),
    ("params/local", ("local", "")),
])  # fmt: skip
def test_a_backbone_is_named_without_its_place(tmp_path: Path, model: str, told: tuple[str, str]) -> None:
    (tmp_path / "params" / "local").mkdir(parents=True)
    assert write.public_backbone(model, tmp_path) == told


# --- texts that nobody checked ------------------------------------------------------------------------------------------

HOSTILE = ["# <script>alert(1)</script>", "---\nlicense: mit\n---", "[x](javascript:1)", "\u2028\x1b[2J\r\n{{ 7*7 }}",
           "| a | b |\n|---|---|", '"}\n{"item_id": "evil"']  # fmt: skip


def test_hostile_titles_stay_text(tmp_path: Path, parts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    titles = [*HOSTILE, *catalogue()["title"][len(HOSTILE) :]]
    model = load_export(written(tmp_path / "e", parts, titles=titles))
    assert model.titles == titles and model.item_ids == IDS
    text = (tmp_path / "e" / "README.md").read_text(encoding="utf-8")
    assert text == (written(tmp_path / "f", parts) / "README.md").read_text(encoding="utf-8"), "no title on the card"
    table = as_table(model.recommend([["i3"]], top=N, beam=N)[0])
    lines = table.split("\n")
    assert len(lines) == N + 1 and all(line.isprintable() for line in lines) and "<script>" in table
    assert len({line.index("-") for line in lines[1:2]}) == 1
    again = json.loads(as_json(["i3"], model.recommend([["i3"]])[0]))
    assert again["history"] == ["i3"] and again["recommendations"][0]["place"] == 1


def test_hostile_names_and_ids_stay_text_on_the_card() -> None:
    data = about()["data"] | {"name": "a\n# [b](http://c) <i> `d` | e www.c.org f@g.org", "licence": "---\nx: *y*"}
    text = card.model_card(about(title="t\n---\n# <b>", data=data), ["$(rm)", '"; x', "--to", "ok-1", "ok_2"])
    body = text.split("---\n", 2)[2]
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"
    plain = re.sub(r"```.*?```|`[^`\n]*`", "", body, flags=re.S)
    assert not re.findall(r"[<>\[\]|*]", plain) and len(re.findall(r"^# ", body, re.M)) == 1
    assert '--history "ok-1,ok_2"' in body and "$(rm" not in body
    assert not [link for link in ("http://", "www.", "f@g") if link in body], "no address turns into a link"
    assert not re.findall(r"^(-{3}|={3})", body, re.M)


# --- the card -----------------------------------------------------------------------------------------------------------


def test_the_card_has_front_matter_and_says_what_there_is(exported: Path) -> None:
    from huggingface_hub import ModelCard

    read = ModelCard.load(exported / "README.md")
    assert read.data.library_name == "transformers" and read.data.pipeline_tag == "text-generation"
    assert "recnb" in read.data.tags and read.data.license == "other"
    assert "few: 15 users, 20 items, 99 interactions" in read.text and "5 codes each" in read.text
    assert "chosen on validation, so" in read.text and "Nothing: the run was exported" in read.text
    assert "trained from scratch" in read.text and "The terms of the data govern this folder: ours" in read.text
    for block in re.findall(r"```python\n(.*?)```", read.text, re.S):
        compile(block, "card", "exec")


def test_the_card_of_a_pretrained_and_measured_model() -> None:
    training = about()["training"] | {"backbone": "org/name", "base_model": "org/name",
                                      "departures": ["decode.beam 10 (paper: 20)"]}  # fmt: skip
    scores = {"R@5": 0.12345, "N@5": 0.1}
    measured = {"protocol": "full ranking", "users": 9, "ours": "eager-llm-no-adapter", "hardware": "a_b",
                "systems": {"eager-llm": scores, "eager-llm-no-adapter": scores, "popularity": scores},
                "verdicts": ["N@5: worse, -0.1 [-0.2, -0.0]"], "commit": "abc"}  # fmt: skip
    told = about(True, False, training=training, measured=measured)
    text = card.model_card(told, [])
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == "org/name"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| system | R@5 | N@5 |" and rows[1] == "| --- | ---: | ---: |" and len(rows) == 5
    assert rows[2] == "| **this model** (trained, without adapter) | 0.1235 | 0.1000 |" and "popularity" in rows[4]
    assert "- N@5: worse, -0.1 [-0.2, -0.0]" in text and "hardware: a&#95;b" in text
    assert "whose licence applies too" in text and "validation preferred the model without it" in text
    assert "- `decode.beam 10 (paper: 20)`" in text and "FIRST_ITEM_ID,NEXT_ITEM_ID" in text


# --- a whole run --------------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_export_of_a_run_makes_the_lists_that_were_evaluated(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (toy_run.root / "runs").rglob("*")}
    monkeypatch.chdir(toy_run.root)
    for _ in range(2):
        assert cli.main(["export", TOY, "--to", str(tmp_path / "toy")]) == 0
    assert {path: path.stat().st_mtime_ns for path in (toy_run.root / "runs").rglob("*")} == before
    assert str(toy_run.root).encode() not in b"".join(p.read_bytes() for p in (tmp_path / "toy").rglob("*.*"))
    model, recipe = load_export(tmp_path / "toy"), load_recipe(toy_run.root / TOY)
    events = pd.read_parquet(toy_run.artifact("01_data", "interactions.parquet"))
    shown = [items.tolist()[:-1] for _, items in events.groupby("user_id", sort=False, observed=True)["item"]]
    found = model.recommend([[model.item_ids[i] for i in items] for items in shown], top=10)
    metrics = json.loads(toy_run.artifact("06_evaluate", "metrics.json").read_text(encoding="utf-8"))
    lists = np.load(toy_run.artifact("06_evaluate", f"lists_{metrics['ours']}_kept.npy"))
    assert [[r.item_id for r in row] for row in found] == [[model.item_ids[i] for i in row] for row in lists]
    adapter = toy_run.artifact("05_anneal", "adapter") if metrics["ours"] == "eager-llm" else None
    backbone, vocab = read_model(toy_run.artifact("04_train", "model"), model.codes, adapter)
    padded = np.array([([-1] * 8 + items)[-8:] for items in shown])
    prompts, trie = seqrec_prompts(vocab, padded, recipe.tasks), Trie.from_tokens(vocab.item_tokens)
    scores = recommend(backbone, prompts, trie, recipe.decode)[1]
    assert [[r.log_probability for r in row] for row in found] == scores.tolist()
    text = (tmp_path / "toy" / "README.md").read_text(encoding="utf-8")
    assert f"| {metrics['systems'][metrics['ours']]['kept']['R@10']:.4f} |" in text and "sasrec" in text
    capsys.readouterr()
    assert cli.main(["recommend", "--model", str(tmp_path / "toy"), "--history", "i0003,i0017", "--top", "3"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["place", "1", "2", "3"]


def edit_manifest(run: ToyRun, stage: str, *keys: str, value: object) -> None:
    path = run.artifact(stage, "manifest.json")
    manifest = node = json.loads(path.read_text(encoding="utf-8"))
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.e2e
def test_a_run_that_is_not_whole_is_not_exported(
    toy_copy: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, root = load_recipe(toy_copy.root / TOY), toy_copy.root

    def refused(expected: str, recipe: Recipe = recipe) -> None:
        with pytest.raises(ArtifactError, match=expected):
            export_model(recipe, root, tmp_path / "e")
        assert not (tmp_path / "e").exists()

    other = recipe.model_copy(update={"decode": recipe.decode.model_copy(update={"beam": 20})})
    refused(r"export needs 04_train, which was made with another recipe \(decode.beam was 10, is 20\)", other)
    edit_manifest(toy_copy, "06_evaluate", "inputs", "04_train", "model", value="0" * 64)
    assert export_model(recipe, root, tmp_path / "f") and load_export(tmp_path / "f").about.measured is None
    toy_copy.artifact("06_evaluate", "manifest.json").unlink()
    monkeypatch.chdir(root)
    assert cli.main(["export", TOY, "--to", str(tmp_path / "f")]) == 0
    assert "not measured: run 06_evaluate" in capsys.readouterr().out
    edit_manifest(toy_copy, "05_anneal", "inputs", "04_train", "model", value="0" * 64)
    refused("export needs 05_anneal, which was made from another 04_train: run notebooks/eager_llm/05_anneal.ipynb again")
    toy_copy.artifact("03_index", "codes.npy").write_bytes(b"")
    refused("codes.npy is damaged: .* rebuild it with notebooks/eager_llm/03_index.ipynb")
    toy_copy.artifact("04_train", "manifest.json").unlink()
    refused("export needs 04_train, which is not complete for recipe 'toy': run notebooks/eager_llm/04_train.ipynb")
