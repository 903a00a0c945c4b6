"""A trained model as a folder: weights, tokenizer, projectors; written by 04_train, read by the notebooks after it."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from recnb.artifacts import Artifacts, read_artifact
from recnb.eager_llm.model import Recommender
from recnb.llm.vocabulary import Vocabulary

SMALL = 200_000_000  # bytes of weights below which a model is asked in float32


def save_model(folder: Path, recommender: Recommender, vocabulary: Vocabulary, k: int) -> None:
    """Write a Hugging Face folder (weights, tokenizer), ``index.json`` (``k`` codes per level) and the projectors."""
    recommender.backbone.save_pretrained(folder, safe_serialization=True)
    vocabulary.tokenizer.save_pretrained(folder)
    if projectors := recommender.projectors.state_dict():
        stored = {name: weight.detach().cpu().contiguous() for name, weight in projectors.items()}
        save_file(stored, folder / "projectors.safetensors")
    (folder / "index.json").write_text(json.dumps({"columns": list(vocabulary.columns), "codes": k}), encoding="utf-8")


def read_model(
    folder: Path, codes: np.ndarray, adapter: Path | None = None,
    device: str = "cpu", dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, Vocabulary]:  # fmt: skip
    """What :func:`save_model` wrote, for item codes (N, L), with a folder's peft adapter on top if one is given."""
    meta = read_artifact(folder / "index.json")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    vocabulary = Vocabulary.build(tokenizer, meta["columns"], codes, meta["codes"])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return model.to(device).eval(), vocabulary


def inference_dtype(folder: Path, dtype: torch.dtype) -> torch.dtype:
    """In what the model of a folder is asked, after a run in ``dtype``: the same in the run and in its export.

    A small model is kept in float32 whatever the run's dtype: it costs nothing, and rounding would decide near ties.
    """
    small = sum(path.stat().st_size for path in folder.glob("model*.safetensors")) < SMALL
    return torch.float32 if small else dtype


def load_trained(stage: Artifacts, adapter: bool = True) -> tuple[PreTrainedModel, Vocabulary]:
    """The trained model of a run, from its verified artifacts; without the adapter if annealing was off."""
    codes = stage.read("03_index", "codes.npy")
    facts = stage.read("05_anneal", "anneal.json") if adapter else {"adapter": False}
    folder = stage.path("05_anneal", "adapter") if facts["adapter"] else None
    runtime, trained = stage.runtime, stage.path("04_train", "model")
    return read_model(trained, codes, folder, runtime.device, inference_dtype(trained, runtime.dtype))
