"""Where a stage's memory goes: every term is the size of arrays that a named function makes.

A stage's peak is what its libraries take, plus what it holds throughout, plus the largest of its moments: the passages
that come one after another and give their memory back. What no recipe says and no code shows is measured, and stands
below as a constant that says how. :mod:`recnb.forecast` adds up; nothing here imports torch.

Shown by ``recnb doctor --recipe FILE``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from recnb.recipe import Bert4recConfig, Gru4recConfig, Recipe, SasrecConfig, SequentialConfig, TigerConfig

MIB = 2**20

# What a stage's kernel holds at its peak when its data and models are next to nothing, in MiB: Python, ipykernel and
# the libraries the notebook imports and has used once (figures drawn, parquet read). Measured as VmHWM, on the toy
# recipe less the terms below, Linux x86-64, CPU build of torch 2.13. 02 has sentence-transformers, 08 umap and numba.
LIBRARIES = {
    "01_data": 500, "02_embeddings": 590, "03_index": 540, "04_train": 615, "05_anneal": 605, "06_evaluate": 590,
    "07_case_studies": 600, "08_prefix_map": 835,
}  # fmt: skip

# Bounds of other modules, which importing would load torch; tests/test_forecast.py holds them equal.
LOGITS_AT_ONCE = 2**26  # recnb.decode: rows x V of one block of logits
CELLS = 8_000_000  # recnb.baselines: numbers in a dense chunk of scores
ACTIVATION_WIDTH = 32  # recnb.behaviour: hidden units of DIN's activation unit

# Measured on single passes of models of 1 to 12 layers (peak resident memory over the bytes of the tensors that are
# kept). The C library's allocator cannot put an aligned block into a hole of its own size, so much of what is freed
# between two kept tensors is lost until all of it is free.
HOLES = 1.2  # of a training pass
HOLES_ADAPTER = 1.7  # with LoRA: three short-lived outputs per projection between those that are kept
CHECKPOINTED = 0.25  # share of a layer's memory that stays taken with gradient checkpointing (kept: only its input)
HOLES_BATCHES = 1.35  # of batches of lists, one after the other and each of another length
BACKWARD = 0.66  # of one layer's memory: gradients that live at once in the backward pass

# Lengths in tokens that depend on text, measured on MovieLens-100K and the toy catalogue with their own vocabularies.
PUBLISHED_LEVELS = 4  # of LC-Rec's and LETTER's indexes
PROMPT = 24  # a template's words (most have 13 to 22)
KNOWN_TEXT = 30  # the longest text of an item (33 and 27)
EVENT = 450  # bytes per line of a source: ids as Python strings, split columns, and copies while filtering
ITEM = 2_000  # bytes per item: its texts as Python strings
TOKEN = 2_600  # bytes per entry of a tokenizer's vocabulary, its copy for plain text included: Gemma's 262,144 tokens
SAMPLE = 500  # bytes of a training sample's objects besides its tokens (8 bytes an id, 1 a label)


@dataclass(frozen=True)
class Sizes:
    """How large the data is.

    Attributes:
        users, items, interactions: U, N, n.
        text: tokens of the longest text of an item, before any cut.
        certain: False where they are counted in the source's files before the k-core, which may drop most of them.
    """

    users: int
    items: int
    interactions: int
    text: int
    certain: bool = True


@dataclass(frozen=True)
class Shape:
    """Sizes of a Transformer, enough to count its weights and activations.

    Attributes:
        vocabulary: rows of the embedding table.
        width: d_model.
        layers: blocks.
        heads: query heads.
        queries: heads x width of a head (``width`` in a Llama).
        keys: the same for keys and values.
        feedforward: inner width.
        tied: the head is the table.
        norms: normalisations per block.
        dropout: of the attention weights; 0: they are never held.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    queries: int
    keys: int
    feedforward: int
    tied: bool = True
    norms: int = 2
    dropout: float = 0.0

    @property
    def parameters(self) -> int:
        """Weights: tables, and per layer the attention's four and a gated feed-forward's three matrices."""
        tables = self.vocabulary * self.width * (1 if self.tied else 2)
        return tables + self.layers * self.width * (2 * self.queries + 2 * self.keys + 3 * self.feedforward)


@dataclass(frozen=True)
class Facts:
    """What is known besides the recipe.

    Attributes:
        sizes: of the data.
        encoder: the text encoder.
        backbone: the language model with its index tokens.
    """

    sizes: Sizes
    encoder: Shape
    backbone: Shape


@dataclass(frozen=True)
class Parts:
    """Bytes of one stage besides its libraries, by what they are.

    Attributes:
        held: there from beginning to end, on the device the model is on.
        moments: largest counts; on that device.
        host: largest counts; on the host, whatever the device.
    """

    held: Mapping[str, float] = field(default_factory=dict)
    moments: Mapping[str, float] = field(default_factory=dict)
    host: Mapping[str, float] = field(default_factory=dict)


# --- pieces of a model's memory --------------------------------------------------------------------------------------


def kept_per_token(shape: Shape, length: int, adapter: bool) -> float:
    """Floats per token that a layer keeps for the backward pass (autograd's saved tensors, counted and compared).

    Norms keep their input, its normalised form and their output; the attention queries, keys, values and what comes
    out; the feed-forward gate, activation, up-projection and their product. Attention weights (heads x S) are held
    only with dropout, which the fused kernels do not know: after the softmax, the mask, and after dropout. With LoRA
    frozen weights keep nothing, but each of the seven projections keeps a dropped-out copy of its input and its mask.
    """
    width, queries, inner = shape.width, shape.queries, shape.feedforward
    weights = 3 * shape.heads * length if shape.dropout else 0
    if adapter:
        return (shape.norms + 10) * width + 6 * queries + 5 * inner + weights
    return (3.5 * shape.norms) * width + 4 * queries + 4 * inner + weights


def training_pass(shape: Shape, batch: int, length: int, rows: int, *, adapter: bool = False,
                  checkpointing: bool = False) -> float:  # fmt: skip
    """Bytes of one forward and backward pass: :meth:`recnb.model.Recommender.forward` on (B, S) tokens, labels at
    ``rows`` of them. Besides the layers: embedding, dropout and last norm, and the logits (rows, V) four times (logits,
    log-softmax, two gradients)."""
    layer = kept_per_token(shape, length, adapter) * (HOLES_ADAPTER if adapter else HOLES)
    layers = layer * shape.layers * (CHECKPOINTED if checkpointing else 1) + (layer if checkpointing else 0)
    token = layers + BACKWARD * layer + 5 * shape.width
    return 4 * (batch * length * token + 4 * rows * shape.vocabulary)


def reading(shape: Shape, tokens: int) -> float:
    """Bytes of one layer at work on so many tokens without gradients: residual, norm, rotated queries and keys with
    their temporaries (measured: about ten widths), and the feed-forward's gate, up-projection and product."""
    return 4 * tokens * (6 * shape.width + 4 * shape.queries + 3 * shape.feedforward)


def decoding(shape: Shape, batch: int, prompt: int, beam: int, columns: int, forced: int) -> float:
    """Bytes of :func:`recnb.decode.beam_search`: the growing cache (each concatenation leaves a hole behind), and the
    larger of the prompts' pass, the beams' pass with its masks, and a block of logits, its log-softmax and holes."""
    length, new = prompt + beam * (columns - 1), batch * beam * max(1, forced)  # an item's last token is never read
    cache = 4 * 2 * shape.keys * shape.layers * batch * length * HOLES_ADAPTER
    masks = 7 * new * length  # float and bool, per key that a new token may see
    rows = min(batch * beam, max(1, LOGITS_AT_ONCE // shape.vocabulary))
    logits = 4 * 3 * rows * shape.vocabulary
    return cache + max(reading(shape, batch * prompt), reading(shape, new) + masks, logits)


def comprehension(shape: Shape, sizes: Sizes, heldout: float) -> float:
    """Bytes of :func:`recnb.anneal.comprehension`: 32 texts of at most 128 tokens (24 plain sentences, or the share of
    items whose text is held out), logits of all positions thrice (logits, their contiguous copy, log-softmax)."""
    tokens = min(32, max(24, round(heldout * sizes.items))) * min(128, max(KNOWN_TEXT, sizes.text))
    return reading(shape, tokens) + 4 * 3 * tokens * shape.vocabulary


# --- the recipe's lengths --------------------------------------------------------------------------------------------


def codes(recipe: Recipe, sizes: Sizes) -> int:
    """K: the recipe's, or the smallest with K^levels >= N, as :func:`recnb.index.codes_per_level` chooses it."""
    if recipe.index.codes != "auto":
        return int(recipe.index.codes)
    return max(2, math.ceil(round(sizes.items ** (1 / recipe.index.levels), 6)))


def columns(recipe: Recipe) -> int:
    """L, the tokens of an item; how many levels a published index has is in its file, so the usual number is taken."""
    semantic = PUBLISHED_LEVELS if recipe.index.semantic_file else recipe.index.levels
    return {"both": semantic + recipe.index.levels, "semantic": semantic}.get(recipe.index.source, recipe.index.levels)


def history(recipe: Recipe) -> int:
    """Items that the longest prompt shows: T, or fewer where the toy's users have no more (1.5 times the mean)."""
    toy = recipe.data.source == "toy"
    return min(recipe.data.max_history, 3 * recipe.data.toy.length // 2) if toy else recipe.data.max_history


def prompt_tokens(recipe: Recipe) -> int:
    """Tokens of the longest prompt that asks for the next item."""
    return PROMPT + history(recipe) * (columns(recipe) + len(recipe.tasks.separator))


def batches(recipe: Recipe, sizes: Sizes) -> list[tuple[int, int]]:
    """The longest kinds of training batch as (S, labels per sample): windows of items first, then a history with an
    answer in words. Batches hold samples of about one length (:class:`recnb.train.EpochSamples`)."""
    targets = history(recipe) if recipe.train.expand == "dense" else 1
    kinds = [(prompt_tokens(recipe) + columns(recipe) + 1, targets * columns(recipe))]
    if any(recipe.tasks.mixture.get(task, 0) for task in ("fusionseqrec", "preferenceobtain")):
        answer = min(recipe.tasks.max_text_tokens, sizes.text)
        kinds.append((prompt_tokens(recipe) + answer + 1, answer))
    return kinds


def sequences(recipe: Recipe, sizes: Sizes) -> int:
    """Samples of one pass over ``seqrec``: of n events two per user are held out and the first is no target; dense
    windows hold T targets, the last of each user half as many on average."""
    targets = max(1, sizes.interactions - 3 * sizes.users)
    dense = sizes.users // 2 + targets // recipe.data.max_history
    return dense if recipe.train.expand == "dense" else targets


def samples(recipe: Recipe, sizes: Sizes) -> int:
    """Samples of one epoch (:meth:`recnb.tasks.TaskBuilder.epoch`)."""
    passes = {str(task): weight for task, weight in recipe.tasks.mixture.items()}
    per_item = passes.get("item2index", 0.0) + passes.get("index2item", 0.0)
    per_user = sum(passes.get(task, 0.0) for task in ("fusionseqrec", "itemsearch", "preferenceobtain"))
    windows = passes.get("seqrec", 0.0) * sequences(recipe, sizes)
    return max(1, round(windows + per_item * sizes.items + per_user * sizes.users))


# --- stages ----------------------------------------------------------------------------------------------------------


def _data(recipe: Recipe, facts: Facts) -> Parts:
    sizes = facts.sizes
    if recipe.data.source == "toy":  # recnb.data.toy._walks: five (U, N) arrays of eight bytes and two of one
        walks = 42 * sizes.users * sizes.items
        return Parts(host={"the toy's walks (U x N)": walks, "the toy's hidden groups (N x N)": sizes.items**2})
    return Parts(host={"the source's tables": EVENT * sizes.interactions + ITEM * sizes.items})


def _embeddings(recipe: Recipe, facts: Facts) -> Parts:
    """The encoder's weights stay until Python collects them; similarities come in blocks of 2,048 rows, with their
    negative and an int64 order (:mod:`recnb.agreement`), and both tables are copied in float64."""
    semantic, items, encoder = recipe.embeddings.semantic, facts.sizes.items, facts.encoder
    both = encoder.width + recipe.embeddings.behaviour.width
    held: dict[str, float] = {"the text encoder's weights": 4 * encoder.parameters, "embeddings": 4 * items * both}
    moments: dict[str, float] = {
        "the text encoder": reading(encoder, semantic.batch_size * min(semantic.max_tokens, facts.sizes.text)),
        f"the behavioural encoder ({recipe.embeddings.behaviour.encoder})": _behaviour_encoder(recipe, facts.sizes),
    }
    return Parts(held, moments, {"neighbours (2048 x N)": 16 * min(items, 2048) * items + 16 * items * both})


def _behaviour_encoder(recipe: Recipe, sizes: Sizes) -> float:
    """DIN's grid of (distinct behaviours, negatives x hidden units), four of them with its gradients, and its pairs
    (B, window); SASRec's step on B targets; or the item pairs that SVD takes apart, as lists of Python numbers (100
    bytes each, measured). That many pairs drawn evenly hit so many of all N^2; popular items make it fewer."""
    config, items = recipe.embeddings.behaviour, sizes.items
    if config.encoder == "svd":
        drawn = 2 * sizes.interactions * config.window / items**2
        return 100 * items**2 * -math.expm1(-drawn)
    if config.encoder == "sasrec":
        return _encoder_step(SasrecConfig(width=config.width), config.batch_size / config.window, config.window, items)
    pairs = config.batch_size * config.window
    grid = 4 * min(items, pairs) * config.negatives * (ACTIVATION_WIDTH + 1)
    return 4 * (grid + pairs * (6 * config.width + 3 * ACTIVATION_WIDTH) + 4 * items * config.width)


def encoder_kept(section: SequentialConfig, length: int) -> float:
    """Floats per position of a window that SASRec, GRU4Rec or BERT4Rec keep for the backward pass (autograd's saved
    tensors, counted and compared): vectors of each block or layer, attention weights and what stands around them."""
    if isinstance(section, Gru4recConfig):
        return 9 * section.hidden * section.layers + 3 * section.width
    if isinstance(section, Bert4recConfig):  # a feed-forward layer four times as wide, a head, one place more
        return section.blocks * (24 * section.width + 3 * section.heads * (length + 1)) + 5 * section.width
    assert isinstance(section, SasrecConfig)
    return section.blocks * (15 * section.width + 3 * section.heads * length) + 2 * section.width


def _encoder_step(section: SequentialConfig, windows: float, length: int, items: int) -> float:
    """Bytes of one training step of :mod:`recnb.sequential`: what the encoder keeps, holes between it and gradients
    in turn, and for every target its scores, their log-softmax and two gradients."""
    targets = float(length)
    if isinstance(section, Bert4recConfig):
        targets, length = max(1.0, 1.1 * section.mask_share * (length + 1)), length + 1
    kept = (HOLES + BACKWARD) * encoder_kept(section, length) * windows * length
    step = 4 * (kept + 4 * windows * targets * (section.negatives or items))
    if section.repeat_bias and section.negatives:  # vectors of the items seen, their products, and who was drawn again
        step += windows * targets * length * (4 * 4 * section.width + section.negatives)
    return step


def tiger_kept(config: TigerConfig, length: int, levels: int) -> float:
    """Floats per sample that TIGER's T5 keeps for the backward pass (autograd's saved tensors, counted and compared):
    every layer keeps vectors, heads and an activation, with dropout the noise and attention weights, too; the decoder's
    cross-attention keeps keys and values of the history."""
    read, inner = length * levels, config.heads * config.head_width
    passing = 3 * config.feedforward + 3 * config.heads * read if config.dropout else config.feedforward
    noise = config.width if config.dropout else 0  # of each sublayer
    encoder = read * (config.encoder_layers * (6 * config.width + 2 * noise + 4 * inner + passing) + 5 * config.width)
    written = 9 * config.width + 3 * noise + 6 * inner + passing
    return encoder + config.decoder_layers * (2 * inner * read + levels * written)


def _baseline_step(name: str, recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """Bytes of one training step of a baseline of this name; nothing for those that count."""
    length, section = history(recipe), getattr(recipe.evaluate, name.removesuffix("-cornac").replace("-", "_"), None)
    key = f"evaluate.{name.replace('-', '_')}.batch_size"
    if isinstance(section, TigerConfig):
        kept = tiger_kept(section, length, recipe.index.levels)
        return {f"TIGER's step ({key} x T)": 4 * (HOLES + BACKWARD / 4) * kept * section.batch_size}
    if not isinstance(section, SequentialConfig):
        return {}
    if name == "sasrec-cornac":  # 2,048 negatives of its own where the recipe wants none
        key, section = "evaluate.sasrec.batch_size", section.model_copy(update={"negatives": section.negatives or 2048})
    rivals = "" if section.negatives else " x N"
    step = _encoder_step(section, section.batch_size, length, sizes.items)
    return {f"{name}'s step ({key} x T{rivals})": step}


def _index(recipe: Recipe, facts: Facts) -> Parts:
    """:func:`recnb.kmeans.balanced_kmeans` says six (N, K); components and health copy the widest table in float64."""
    items, wide = facts.sizes.items, max(facts.encoder.width, recipe.embeddings.behaviour.width)
    host: dict[str, float] = {
        "balanced k-means (N x K)": 8 * items * (6 * codes(recipe, facts.sizes) + 5 * (recipe.index.pca or wide)),
        "principal components (N x d_sem)": 4 * 8 * items * wide,
        "neighbours (512 x N)": 3 * 8 * min(items, 512) * items + 2 * 8 * items * wide,
    }
    return Parts(host=host)


def _train(recipe: Recipe, facts: Facts) -> Parts:
    """Gradients (4 bytes a weight) and Adam's moments (8) come with training; validation meets the moments alone. A
    tied table gets two gradients before they are added up, and Adam makes two temporaries of one tensor at a time."""
    shape, sizes = facts.backbone, facts.sizes
    batch = min(recipe.train.batch_size, samples(recipe, sizes))
    step = max(
        training_pass(shape, batch, length, batch * labels, checkpointing=recipe.backbone.gradient_checkpointing)
        for length, labels in batches(recipe, sizes)
    )
    table = 4 * shape.vocabulary * shape.width
    users = min(recipe.train.validation_users or sizes.users, sizes.users)
    moments = {
        "a training step (train.batch_size x length)": 12 * shape.parameters + max(step + table, 2 * table),
        LISTS: _lists(recipe, facts, users) + 8 * shape.parameters,
        "logits of held-out texts": comprehension(shape, sizes, recipe.tasks.heldout_text),
    }
    return Parts(_read(facts), moments, _epochs(recipe, sizes))


def _anneal(recipe: Recipe, facts: Facts) -> Parts:
    """peft merges the trained rows into a copy of the table for each use: the head's is kept for the backward pass and
    gets a gradient, the lookup's comes and goes."""
    shape, sizes = facts.backbone, facts.sizes
    batch = min(recipe.train.batch_size, sequences(recipe, sizes))
    length, labels = batches(recipe, sizes)[0]
    moments = {
        LISTS: _lists(recipe, facts, sizes.users),
        "logits of held-out texts": comprehension(shape, sizes, recipe.tasks.heldout_text),
    }
    if recipe.anneal.enabled:
        tables = 8 * shape.vocabulary * shape.width if recipe.anneal.train_embeddings else 0
        checkpointing = recipe.backbone.gradient_checkpointing
        step = training_pass(shape, batch, length, batch * labels, adapter=True, checkpointing=checkpointing)
        moments["a training step with the adapter (train.batch_size x length)"] = step + tables
    return Parts(_read(facts), moments, _epochs(recipe, sizes))


def _evaluate(recipe: Recipe, facts: Facts) -> Parts:
    """Besides the lists: W + 100 items scored outright, 64 at a time, with the logits of their own tokens."""
    shape, sizes, config = facts.backbone, facts.sizes, recipe.evaluate
    asked = min(recipe.decode.beam, sizes.items) + min(100, sizes.items)
    texts = math.ceil(asked / math.ceil(asked / 64))
    scored = reading(shape, texts * (prompt_tokens(recipe) + columns(recipe)))
    moments = {
        LISTS: _lists(recipe, facts, sizes.users),
        "items scored outright (64 x data.max_history)": scored + 4 * texts * (columns(recipe) + 1) * shape.vocabulary,
    }
    for name in config.baselines:
        moments |= _baseline_step(name, recipe, sizes)
    return Parts(_read(facts), moments, _scores(recipe, sizes))


def _scores(recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """Bytes of the baselines' scores: 1,024 users at a time, and a chunk of :func:`recnb.baselines.top_items` that is
    copied, partitioned and counted; ItemKNN's similarities come in chunks of float32 and float64, and its window is
    chosen from the votes of all users at once."""
    config, chunk = recipe.evaluate, 22 * min(CELLS, sizes.users * sizes.items)
    host: dict[str, float] = {"a baseline's scores (1024 x N)": 8 * min(1024, sizes.users) * sizes.items + chunk}
    if "itemknn" in config.baselines:
        events = min(sizes.interactions, sizes.users * recipe.data.max_history)
        host["ItemKNN's votes (U x T x neighbours)"] = 32 * events * min(config.itemknn_neighbours, sizes.items)
        host["ItemKNN's similarities (N x N)"] = 34 * min(CELLS, sizes.items**2)
    return host


def _cases(recipe: Recipe, facts: Facts) -> Parts:
    """Lists of 200 users; a beam as wide as a part of the catalogue (:func:`recnb.explain.catalogue_scores`); texts
    written 32 at a time."""
    shape, sizes, tokens = facts.backbone, facts.sizes, prompt_tokens(recipe)
    forced = columns(recipe) - recipe.index.levels
    moments = {
        LISTS: _lists(recipe, facts, min(200, sizes.users)) / HOLES_BATCHES,  # few batches
        "beam search over the catalogue": decoding(shape, 1, tokens, min(512, sizes.items), columns(recipe), forced),
        "texts written (32 at a time)": decoding(shape, 32, tokens, 1, recipe.tasks.max_text_tokens, 1),
    }
    return Parts(_read(facts), moments, {"word matches (120 x N)": 4 * 8 * 120 * sizes.items})


def _map(recipe: Recipe, facts: Facts) -> Parts:
    """Float64 copies for principal components; UMAP compares all pairs of fewer than 4,096 items; ranks of 1,000."""
    items, shown = facts.sizes.items, min(facts.sizes.items, recipe.map.max_items)
    learned = columns(recipe) * facts.backbone.width
    wide = max(learned, facts.encoder.width)
    host: dict[str, float] = {
        "principal components (N x L d_model)": 3 * 8 * items * wide,
        "UMAP (map.max_items)": 20 * shown**2 if shown < 4096 else 400 * shown * recipe.map.neighbours,
        "ranks of all items (1000 x N)": 28 * min(1000, shown) * shown + 2 * 8 * shown * wide,
    }
    spaces: dict[str, float] = {"item spaces (N x L d_model)": 4 * items * (learned + facts.encoder.width)}
    return Parts(_read(facts) | spaces, {}, host)


def _read(facts: Facts) -> dict[str, float]:
    """Bytes of what every stage from 04 on reads."""
    shape = facts.backbone
    return {
        "the backbone's weights": 4 * shape.parameters,
        "its tokenizer": TOKEN * shape.vocabulary,
        "the catalogue's texts": ITEM * facts.sizes.items,
    }


def _lists(recipe: Recipe, facts: Facts, users: int) -> float:
    """Bytes of :func:`recnb.decode.recommend` for so many users, ``decode.batch_size`` at a time."""
    batch, beam = min(recipe.decode.batch_size, users), min(recipe.decode.beam, facts.sizes.items)
    forced = columns(recipe) - recipe.index.levels
    return HOLES_BATCHES * decoding(facts.backbone, batch, prompt_tokens(recipe), beam, columns(recipe), forced)


def _epochs(recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """Three epochs' samples at once: the notebook's, the one in use and the next."""
    tokens = prompt_tokens(recipe) + columns(recipe)
    return {"training samples": 3 * samples(recipe, sizes) * (SAMPLE + 9 * tokens)}


LISTS = "beam search (decode.batch_size x decode.beam)"
STAGE_PARTS: dict[str, Callable[[Recipe, Facts], Parts]] = {
    "01_data": _data, "02_embeddings": _embeddings, "03_index": _index, "04_train": _train, "05_anneal": _anneal,
    "06_evaluate": _evaluate, "07_case_studies": _cases, "08_prefix_map": _map,
}  # fmt: skip
