"""What a language model thinks of given answers, words and texts behind prompts: likelihoods, choices, states.

Likelihoods of candidates come from :mod:`recnb.llm.packed`. Prompts that begin alike (the sets of one user, the twenty
questions about one history) are forks of one list, read once (:mod:`recnb.llm.continuations`).
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from recnb.errors import RecnbError
from recnb.llm.backbone import device_of, head_logits, inference, length_batches, rows_at_once
from recnb.llm.continuations import NO_TOKEN, Forks, continuations, fork_states
from recnb.llm.packed import BATCH_TOKENS, told_answers


def beginnings(prompts: Sequence[np.ndarray], groups: np.ndarray | None = None) -> Forks:
    """Prompts as forks: those of one group are read once as far as they begin alike.

    Args:
        prompts: B arrays of at least two token ids.
        groups: (B,) any numbers; None: each prompt by itself.

    Raises:
        RecnbError: a prompt of less than two tokens.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int64)
    if not len(lengths) or lengths.min() < 2:
        raise RecnbError(f"prompts: expected some, of at least two tokens each, found {lengths.tolist()[:5]}")
    groups = np.arange(len(prompts)) if groups is None else groups
    _, firsts, rows = np.unique(groups, return_index=True, return_inverse=True)
    padded = np.full((len(prompts), lengths.max()), NO_TOKEN, np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(list(prompts))
    alike = (padded == padded[firsts[rows]]).cumprod(1).sum(1)
    common = np.full(len(firsts), padded.shape[1])
    np.minimum.at(common, rows, np.minimum(alike, lengths - 1))
    if not common.all():
        raise RecnbError(f"prompts of group {groups[firsts[common.argmin()]]}: expected the same first token")
    cuts = common[rows]
    lists = [prompts[first][:cut] for first, cut in zip(firsts, common, strict=True)]
    return Forks(lists, rows, cuts, [prompt[cut:] for prompt, cut in zip(prompts, cuts, strict=True)])


def score_answers(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    candidates: np.ndarray,
    reduce: Literal["sum", "mean"] = "sum",
    batch_tokens: int = BATCH_TOKENS,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """(B, C) float32 log-probability of each candidate behind its prompt, summed or per token.

    Args:
        prompts: B arrays of token ids; groups: as of :func:`beginnings`.
        model, answers, candidates, batch_tokens: as of :func:`recnb.llm.packed.told_answers`.
    """
    told = told_answers(model, beginnings(prompts, groups), answers, candidates, batch_tokens)
    return told.sum() if reduce == "sum" else told.mean()


def score_words(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    words: np.ndarray,
    batch_tokens: int = BATCH_TOKENS,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """(B, K) float32 log-probability of single tokens (K,) at each prompt's end: yes and no, letters.

    ``groups``: as of :func:`beginnings`, e.g. the user of each question.
    """
    states = torch.from_numpy(fork_states(model, beginnings(prompts, groups), batch_tokens))
    with inference(model) as causal:
        ids = torch.as_tensor(words, dtype=torch.long, device=device_of(causal))
        parts = [head_logits(causal, part.to(ids.device)) for part in states.split(rows_at_once(causal))]
        return torch.cat([logits[:, ids] - logits.logsumexp(-1, keepdim=True) for logits in parts]).cpu().numpy()


def write(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    max_tokens: int,
    stops: Sequence[int],
    allowed: Sequence[Sequence[np.ndarray]] | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[np.ndarray]:
    """What is written greedily behind each prompt: token ids, the one that ended it among them.

    Args:
        max_tokens: most tokens of a free text; stops: ids that end a free text.
        allowed: per prompt the answers that it may give, each with its end; None: anything.
    """
    forks = beginnings(prompts)
    if allowed is None:
        found = continuations(model, forks, stops, max_tokens, batch_tokens)
        return [ids[:length] for ids, length in zip(found.ids, found.lengths, strict=True)]
    counts = np.array([len(own) for own in allowed])
    starts = np.cumsum(counts) - counts
    candidates = starts[:, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)  # filled with the last
    answers = [answer for own in allowed for answer in own]
    columns = told_answers(model, forks, answers, candidates, batch_tokens).chosen()
    return [answers[place] for place in candidates[np.arange(len(columns)), columns]]


def pooled_states(
    model: nn.Module, prompts: Sequence[np.ndarray], spans: Sequence[slice], batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """(B, d) float32 mean of the last hidden states over a span of each prompt.

    What stands behind the span is not read at all, so it cannot change the mean by a bit.

    Raises:
        RecnbError: an empty span, or one outside its prompt.
    """
    edges = np.array([[span.start, span.stop] for span in spans], np.int64)
    for prompt, (start, stop) in enumerate(edges.tolist()):
        if not 0 <= start < stop <= len(prompts[prompt]):
            raise RecnbError(f"prompt {prompt}: span {start} to {stop} of {len(prompts[prompt])} tokens")
    order, means = length_batches(edges[:, 1], len(edges), batch_tokens), []
    with inference(model) as causal:
        for rows in order:
            read = [np.asarray(prompts[row][: edges[row, 1]]) for row in rows]
            means.append(_span_means(causal, read, edges[rows, 0]))
    return torch.cat(means).numpy()[np.argsort(np.concatenate(order))]


def _span_means(causal: Any, texts: Sequence[np.ndarray], starts: np.ndarray) -> Tensor:
    """(B, d) mean state of texts from ``starts`` (B,) to their ends."""
    ids = pad_sequence([torch.from_numpy(text.astype(np.int64)) for text in texts], batch_first=True)
    # padded on the right: behind all that is asked, so that attention needs no mask
    hidden = causal.base_model(input_ids=ids.to(device_of(causal)), use_cache=False).last_hidden_state.float().cpu()
    place = torch.arange(ids.shape[1])
    ends = torch.tensor([len(text) for text in texts])
    inside = (place >= torch.from_numpy(starts)[:, None]) & (place < ends[:, None])
    return (hidden * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)


def ground(vectors: np.ndarray, table: np.ndarray, prior: np.ndarray | None = None, gamma: float = 0.0) -> np.ndarray:
    """(B, N) scores of all items: how near each is, and how well another recommender thinks of it.

    Minus BIGRec's grounding, distance x (1 + w)^-gamma; w is the prior, scaled to [0, 1] row by row. On rows of unit
    length it orders as the cosine does.

    Args:
        vectors: (B, d) of what was written or read; table: (N, d) of the items.
        prior: (B, N) or (1, N) popularity or scores; None: nothing.

    Raises:
        RecnbError: vectors and table of different widths.
    """
    if vectors.shape[1] != table.shape[1]:
        raise RecnbError(f"vectors of width {vectors.shape[1]}, a table of {table.shape[1]}: expected the same")
    # in float64: a distance is the small difference of large numbers
    distances = torch.cdist(*(torch.from_numpy(np.asarray(part, np.float64)) for part in (vectors, table))).numpy()
    if prior is not None:
        low, high = (kind(prior, axis=1, keepdims=True) for kind in (np.min, np.max))
        distances = distances * (1 + (prior - low) / np.maximum(high - low, 1e-12)) ** -gamma
    return -distances.astype(np.float32)


def normalised(text: str) -> str:
    """A text as titles are compared: letters and digits, lower-case, single spaces.

    >>> normalised(" Sgt. Bilko (1996)")
    'sgt bilko 1996'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+", folded)) or " ".join(folded.split())


def exact_titles(texts: Sequence[str], titles: Sequence[str], candidates: np.ndarray) -> np.ndarray:
    """(B,) column of ``candidates`` (B, C) whose title is the whole text: letter by letter, else both normalised; -1:
    none, or several."""
    found = np.full(len(texts), -1)
    for alike in (normalised, str):  # "Mr. X" is not "Mr X" where both are listed
        plain = np.array([alike(title) for title in titles], object)
        equal = plain[candidates] == np.array([alike(text) for text in texts], object)[:, None]
        found = np.where(equal.sum(1) == 1, equal.argmax(1), found)
    return found


def match_titles(texts: Sequence[str], titles: Sequence[str], candidates: np.ndarray) -> np.ndarray:
    """(B,) column of the one candidate that each text names; -1: an invalid answer.

    :func:`exact_titles` first; else the one title that stands in the text in whole words. A title inside a longer one
    that also stands there (``Alien`` in ``Alien 3``) is not named; two others are one too many.
    """
    found = exact_titles(texts, titles, candidates)
    plain = [f" {normalised(title)} " for title in titles]
    for row in np.flatnonzero(found < 0).tolist():  # few, and short
        text, own = f" {normalised(texts[row])} ", [plain[item] for item in candidates[row]]
        inside = [title for title in own if title in text]
        named = {title for title in inside if not any(title != other and title in other for other in inside)}
        columns = [column for column, title in enumerate(own) if title in named]
        found[row] = columns[0] if len(columns) == 1 else -1
    return found
