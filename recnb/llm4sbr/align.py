"""Stage two of LLM4SBR: a session model whose two views are pulled towards two texts, and gated by them.

LLM4SBR section 3.4, equations 7 to 13, with alignment and uniformity of DirectAU (Wang et al., KDD 2022). The session
model is any of :data:`recnb.recommenders.session_models.SESSION_MODELS`; with the loss's weight at 0 and no fusion it
is trained to the very bits of the same model without texts. Shown in ``07_align``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional

from recnb.artifacts import read_json, write_json
from recnb.data.sessions import Samples
from recnb.errors import ArtifactError
from recnb.llm4sbr.recipe import ArmConfig
from recnb.llm4sbr.settings import VIEWS
from recnb.llm4sbr.sources import Texts
from recnb.recommenders.epochs import EpochModel, seeded
from recnb.recommenders.session_model import Encoded, SessionModel, fit_samples
from recnb.recommenders.session_models import SESSION_MODELS, load_session_model, save_session_model
from recnb.recommenders.settings import SessionModelConfig

CELLS = 2**24  # scores held at once: 64 MB of float32
_OWN, _PAGE = "texts.safetensors", "arm.json"


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared distance of pairs x, y (B, d), each at length 1: 0 where they point the same way, at most 4."""
    return (functional.normalize(x, dim=1) - functional.normalize(y, dim=1)).square().sum(1).mean()


def uniformity(x: Tensor, sessions: Tensor | None = None) -> Tensor:
    """log of the mean over pairs i < j of exp(-2 ||x_i - x_j||^2), each x (B, d) at length 1: lower is more even.

    Args:
        sessions: (B,) session of each row; given, pairs of one session do not count (prefixes of one session are
            near-copies, and there is no sense in pushing them apart). No pair at all gives 0.
    """
    directions = functional.normalize(x, dim=1)
    counts = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).triu(1)
    if sessions is not None:
        counts &= sessions[:, None] != sessions
    if not counts.any():
        return x.new_zeros(())
    exponents = 4 * (directions @ directions.T)[counts] - 4  # -2 ||x - y||^2 where both have length 1
    return exponents.logsumexp(0) - np.log(len(exponents))


class Text(NamedTuple):
    """The texts of B samples in one view: vectors (B, d_text), zero where there is none, and which have one (B,)."""

    vectors: Tensor
    present: Tensor


class Read(NamedTuple):
    """What an aligned model makes of B windows and their texts.

    Attributes:
        encoded: what the session model makes of them, without texts.
        session: (B, d) session vectors, with texts.
        own: view -> the session model's vector (B, d): s_g, s_l, or both joined.
        text, present: of each view that has texts: these in the same width (B, d), and which samples have one (B,).
        gate: of each view that has one: by what it was multiplied (B,).
    """

    encoded: Encoded
    session: Tensor
    own: dict[str, Tensor]
    text: dict[str, Tensor]
    present: dict[str, Tensor]
    gate: dict[str, Tensor]


class Aligned(EpochModel):
    """A session model with texts: one matrix for all texts, a gate per view, and the loss of both.

    t = W_t t' + b; g_view = q_view . sigmoid(s_view + t_view), a number without bounds (equations 10 to 12). Ours: q
    begins at 2/d, so that gates begin near 1, where a sample without a text has its gate. With ``fusion: concat`` the
    session vector is W [s_g; s_l; t_L; t_S] instead, with ``none`` the session model's own.

    The numbers that are its own come from a generator of its own, so that the session model's are drawn as without it.

    Args:
        backbone: the session model; arm: views, fusion and loss; text_width: d_text; seed: of its own weights.
    """

    def __init__(self, backbone: SessionModel, arm: ArmConfig, text_width: int, seed: int) -> None:
        super().__init__(backbone.length)
        self.title = f"{backbone.title} + texts"
        self.backbone, self.arm, width = backbone, arm, backbone.config.width
        rng = torch.Generator().manual_seed(seed)
        self.matrix = _drawn(width, text_width, rng)
        self.bias = nn.Parameter(torch.zeros(width))
        gates = arm.views if arm.fusion == "gate" else []
        self.gates = nn.ParameterDict({view: nn.Parameter(torch.full((width,), 2 / width)) for view in gates})
        self.beside = _drawn(width, width * len(arm.views), rng) if arm.fusion == "concat" else None

    def read(self, windows: Tensor, texts: dict[str, Text], table: Tensor) -> Read:
        """Windows (B, T) and the texts of each view, against the session model's item vectors (N, d)."""
        encoded = self.backbone.encode(windows, table)
        own = {"long": encoded.long, "short": encoded.short}
        text = {view: functional.linear(found.vectors, self.matrix, self.bias) for view, found in texts.items()}
        gate: dict[str, Tensor] = {}

        def gated(view: str) -> Tensor:
            if view not in self.gates:
                return own[view]
            said = torch.sigmoid(own[view] + text[view]) @ self.gates[view]  # (B,)
            gate[view] = torch.where(texts[view].present, said, 1.0)
            return own[view] * gate[view][:, None]

        own["merged"] = self.backbone.join(gated("long"), gated("short"))
        session = gated("merged")
        if self.beside is not None:
            told = [text[view] * found.present[:, None] for view, found in texts.items()]
            session = session + functional.linear(torch.cat(told, dim=1), self.beside)
        return Read(encoded, session, own, text, {view: found.present for view, found in texts.items()}, gate)

    def score(self, windows: Tensor, read: Read) -> Tensor:
        """(B, N) scores of what was read."""
        return self.backbone.with_repeats(self.backbone.logits(read.session, read.encoded), windows)

    def distances(self, read: Read, sessions: Tensor | None) -> dict[str, tuple[Tensor, Tensor]]:
        """view -> alignment, and mean uniformity of both sides, over the samples that have a text."""
        found = {}
        for view, present in read.present.items():
            own, text = read.own[view][present], read.text[view][present]
            of = None if sessions is None else sessions[present]
            if len(own):
                found[view] = alignment(own, text), (uniformity(own, of) + uniformity(text, of)) / 2
        return found

    def texts(self, texts: Texts, numbers: np.ndarray) -> dict[str, Text]:
        """The texts of samples, by their :attr:`Samples.number` (B,), in the views that the arm looks at."""
        found: dict[str, Text] = {}
        for view in self.arm.views:
            rows = texts.rows[numbers, VIEWS.index(view)]
            vectors = torch.from_numpy(texts.vectors[np.maximum(rows, 0)]).to(self.device).float()
            found[view] = Text(vectors, torch.from_numpy(rows >= 0).to(self.device))
        return found

    @torch.no_grad()
    def read_batches(self, samples: Samples, texts: Texts, batch_size: int) -> Iterator[tuple[Tensor, Read]]:
        """Windows (B, T) of samples and what is made of them, a batch at a time; meanwhile in evaluation mode."""
        was_training = self.training
        self.eval()
        table = self.backbone.table()
        for start in range(0, len(samples), batch_size):
            batch = samples.take(np.arange(start, min(start + batch_size, len(samples))))
            inputs = batch.inputs(min(self.length, int(batch.lengths.max()))).astype(np.int64)
            windows = torch.from_numpy(inputs).to(self.device)
            yield windows, self.read(windows, self.texts(texts, batch.number), table)
        self.train(was_training)

    @torch.no_grad()
    def score_rows(self, samples: Samples, texts: Texts, batch_size: int = 0) -> Iterator[Tensor]:
        """(B, N) float32 scores of samples, a batch at a time; 0: as many as fit 64 MB."""
        size = batch_size or max(1, min(1024, CELLS // self.backbone.n_items))
        for windows, read in self.read_batches(samples, texts, size):
            yield self.score(windows, read).float()

    def ranks(self, samples: Samples, texts: Texts) -> np.ndarray:
        """(M,) int64 places of the targets among all items, from 0; equal scores stand in order of their numbers."""
        above, _, before = self._places(samples, texts)
        return (above + before).cpu().numpy()

    def recall(self, samples: Samples, texts: Texts, cutoff: int) -> float:
        """Share of samples whose target is among the ``cutoff`` best of all items; a tie counts against us."""
        above, equal, _ = self._places(samples, texts)
        return float((above + equal <= cutoff).double().mean())

    def _places(self, samples: Samples, texts: Texts) -> list[Tensor]:
        """How many items score above each target, as it (itself too), and as it with a lower number: (M,) each."""
        found, numbers = [], torch.arange(self.backbone.n_items, device=self.device)
        targets, start = torch.from_numpy(samples.targets.astype(np.int64)).to(self.device)[:, None], 0
        for scores in self.score_rows(samples, texts):
            wanted = targets[start : start + len(scores)]
            start += len(scores)
            own = scores.gather(1, wanted)
            same = scores == own
            found.append(torch.stack([(scores > own).sum(1), same.sum(1), (same & (numbers < wanted)).sum(1)]))
        return list(torch.cat(found, dim=1)) if found else [targets[:, 0]] * 3

    def gates_of(self, samples: Samples, texts: Texts) -> dict[str, np.ndarray]:
        """view -> (M,) float32 gates, NaN where a sample has no text."""
        parts = [
            {view: torch.where(read.present[view], gate, torch.nan) for view, gate in read.gate.items()}
            for _, read in self.read_batches(samples, texts, 1024)
        ]
        return {view: torch.cat([part[view] for part in parts]).cpu().numpy() for view in self.gates}


def _drawn(rows: int, columns: int, rng: torch.Generator) -> nn.Parameter:
    """A matrix from uniform(-1/sqrt(columns), 1/sqrt(columns)), without a draw from torch's own generator."""
    return nn.Parameter((2 * torch.rand(rows, columns, generator=rng) - 1) / columns**0.5)


def start_from_text(model: SessionModel, vectors: np.ndarray) -> None:
    """Let the item table begin as the text vectors (N, d_text), turned and cut to its width (PCA): LLM2SRGNN.

    They are scaled to the spread of uniform(-1/sqrt(d), 1/sqrt(d)); where the table is wider, its last columns stay.
    """
    width = model.config.width
    kept = min(width, *vectors.shape)
    turned = PCA(kept, svd_solver="full").fit_transform(np.asarray(vectors, np.float64))
    scaled = turned / max(turned.std(), 1e-12) / (3 * width) ** 0.5
    with torch.no_grad():
        model.items.weight[: model.n_items, :kept] = torch.from_numpy(scaled).to(model.items.weight)


class Lesson:
    """The loss of an arm on a batch, and what its parts were over the epoch.

    Args:
        model: what learns; texts: of all samples; samples: the training samples.
    """

    def __init__(self, model: Aligned, texts: Texts, samples: Samples) -> None:
        self.model, self.texts, self.sums = model, texts, dict[str, Tensor]()
        self.session = np.full(len(texts.rows), -1, np.int64)
        self.session[samples.number] = samples.session
        self.samples = 0

    def loss(self, windows: Tensor, targets: Tensor, numbers: np.ndarray) -> Tensor:
        """Cross-entropy + lambda sum over views of (alignment + uniformity), equations 7 and 13."""
        model, arm = self.model, self.model.arm
        read = model.read(windows, model.texts(self.texts, numbers), model.backbone.table())
        total = functional.cross_entropy(model.score(windows, read), targets)
        self._note(len(targets), entropy=total)
        extra = model.backbone.extra_loss(read.encoded, windows)
        total = total if extra is None else total + extra
        apart = arm.uniform_pairs == "other-sessions"
        sessions = torch.from_numpy(self.session[numbers]).to(model.device) if apart else None
        for view, (near, even) in model.distances(read, sessions).items() if arm.weight else ():
            total = total + arm.weight * (arm.align * near + arm.uniform * even)
            self._note(len(targets), **{f"align {view}": near, f"uniform {view}": even})
        self.samples += len(targets)
        return total

    def _note(self, samples: int, **parts: Tensor) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * samples

    def told(self) -> dict[str, float]:
        """Means of the parts over the samples since it was asked last."""
        means = {name: float(value) / self.samples for name, value in self.sums.items()}
        self.sums, self.samples = {}, 0
        return means


def train_arm(
    arm: ArmConfig, backbone: str, config: SessionModelConfig, samples: Samples, n_items: int, length: int,
    texts: Texts, validation: Samples, *, items: np.ndarray | None = None, seed: int = 0, device: str = "cpu",
    progress: bool = False, keep: Path | None = None,
) -> Aligned:  # fmt: skip
    """Train a session model with texts; the epoch of the best R@10 on validation is kept. Its ``log`` has the parts of
    the loss of each epoch.

    Args:
        arm: of the recipe; backbone: a name in SESSION_MODELS; config: its section of the recipe.
        samples, validation: of training and validation; n_items: N; length: T, longer inputs are cut.
        texts: of the samples of all parts (:func:`recnb.llm4sbr.sources.texts_of`).
        items: (N, d_text) text vectors of the catalogue, for ``start: text``.
        seed, device, progress, keep: see :class:`recnb.recommenders.epochs.EpochTraining`.
    """
    rng = np.random.default_rng(seed)
    with seeded(seed, device):
        net = SESSION_MODELS[backbone](n_items, config, length).to(device)
        net.learn_structure(samples)
        if arm.start == "text":
            assert items is not None
            start_from_text(net, items)
        model = Aligned(net, arm, texts.vectors.shape[1], seed).to(device)
        lesson = Lesson(model, texts, samples)

        def check() -> float:
            model.log[-1] |= lesson.told()
            return model.recall(validation, texts, 10)

        fit_samples(model, samples, config, length, rng, lesson.loss, check, progress, keep)
    return model.eval()


def save_arm(folder: Path, model: Aligned, name: str) -> None:
    """Write an arm into a folder: the session model by itself, what the texts need, and a page that says what it is."""
    save_session_model(model.backbone, folder / "backbone")
    own = {key: value.contiguous() for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    save_file(own, folder / _OWN)
    page = {"name": name, "arm": model.arm.model_dump(), "log": model.log}
    write_json(folder / _PAGE, page)


def load_arm(folder: Path, device: str = "cpu") -> Aligned:
    """The arm that :func:`save_arm` wrote, in evaluation mode.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    backbone, page = load_session_model(folder / "backbone"), read_json(folder / _PAGE)
    try:
        own = load_file(folder / _OWN)
        model = Aligned(backbone, ArmConfig(**page["arm"]), own["matrix"].shape[1], 0)
        model.load_state_dict({f"backbone.{name}": part for name, part in backbone.state_dict().items()} | own)
        model.log = page["log"]
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: no arm as 07_align writes it: {error}") from None
    return model.to(device).eval()
