"""Every session model by its name in a recipe; and one as a folder: its weights, and a page that says what it is."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recnb.artifacts import read_json, write_folder_atomic, write_json
from recnb.errors import ArtifactError, nearest
from recnb.recommenders.bert4rec import BERT4Rec
from recnb.recommenders.caser import Caser
from recnb.recommenders.dhcn import DHCN
from recnb.recommenders.din import DIN
from recnb.recommenders.gcegnn import GCEGNN
from recnb.recommenders.gcsan import GCSAN
from recnb.recommenders.gru4rec import GRU4Rec
from recnb.recommenders.narm import NARM
from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.readout import GRU4RecViews, SASRecViews
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_model import SessionModel
from recnb.recommenders.settings import BaselinesConfig
from recnb.recommenders.srgnn import SRGNN
from recnb.recommenders.stamp import STAMP
from recnb.recommenders.tagnn import TAGNN

SESSION_MODELS: dict[str, type[SessionModel]] = {
    "srgnn": SRGNN, "tagnn": TAGNN, "gcegnn": GCEGNN, "dhcn": DHCN, "gcsan": GCSAN, "stamp": STAMP, "narm": NARM,
    "gru4rec-views": GRU4RecViews, "sasrec-views": SASRecViews,
}  # fmt: skip
SAVED: dict[str, type[NextItemEncoder]] = SESSION_MODELS | {
    "sasrec": SASRec, "sasrec-sampled": SASRec, "gru4rec": GRU4Rec, "bert4rec": BERT4Rec, "caser": Caser, "din": DIN,
}  # fmt: skip
_WEIGHTS, _PAGE = "weights.safetensors", "model.json"


def save_session_model(model: NextItemEncoder, folder: Path) -> None:
    """Write a trained model (one of :data:`SAVED`) as a folder, whole or not at all: weights with what was learned from
    the training sessions (safetensors), and name, settings, N, T and log (JSON)."""
    page = {
        "model": next(name for name, kind in SAVED.items() if kind is type(model)), "n_items": model.n_items,
        "length": model.length, "settings": model.config.model_dump(), "log": model.log,
    }  # fmt: skip

    def fill(path: Path) -> None:
        save_file({name: part.contiguous() for name, part in model.state_dict().items()}, path / _WEIGHTS)
        write_json(path / _PAGE, page)

    write_folder_atomic(folder, fill)


def load_session_model(folder: Path, device: str = "cpu") -> Any:
    """The model that :func:`save_session_model` wrote, in evaluation mode.

    Raises:
        ArtifactError: a file is missing or damaged, or the model, a setting or a weight is none that this version has.
    """
    page = read_json(folder / _PAGE)
    try:
        name = page["model"]
        if name not in SAVED:
            raise ArtifactError(f"{folder / _PAGE}: unknown model '{name}'{nearest(str(name), SAVED)}")
        model = SAVED[name](page["n_items"], config_of(name).model_validate(page["settings"]), page["length"])
        _fill(model, load_file(folder / _WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: no model as save_session_model writes it: {error}") from None
    model.log = page["log"]
    return model.to(device).eval()


def config_of(name: str) -> Any:
    """The class of a model's settings."""
    return type(getattr(BaselinesConfig(), name.replace("-", "_")))


def _fill(model: NextItemEncoder, state: dict[str, Tensor]) -> None:
    """Give a new model its weights; what it learned from training sessions has the shape that it had there."""
    for place, _ in list(model.named_buffers()):
        owner, _, name = place.rpartition(".")
        setattr(model.get_submodule(owner), name, state[place])
    model.load_state_dict(state)
