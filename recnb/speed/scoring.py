"""Candidates of a prompt scored as a user would without recnb: a text per candidate, or the prompt's cache repeated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from recnb.llm.backbone import inference, length_batches, pad_left
from recnb.llm.scoring import score_answers


@dataclass(frozen=True)
class Sets:
    """B prompts, each a user's history with one set of candidates printed behind it.

    Attributes:
        prompts: token ids; users: (B,) whose they are; answers: token ids of each item's title and an end.
        candidates: (B, C) items.
    """

    prompts: Sequence[np.ndarray]
    users: np.ndarray
    answers: Sequence[np.ndarray]
    candidates: np.ndarray


def synthetic_sets(count: int, items: int, size: int, vocabulary: int, seed: int, beginning: int = 24,
                   history: int = 10, draws: int = 2) -> Sets:
    """Prompts of random tokens as long as those about films: an instruction, titles of 2 to 11 tokens, a cue."""
    rng = np.random.default_rng(seed)
    lengths = 2 + rng.binomial(9, 0.3, items)  # 4.7 tokens on average, as SmolLM2 makes of a title of ML-100K
    titles = [rng.integers(2, vocabulary, length) for length in lengths]
    instruction, users = rng.integers(2, vocabulary, beginning), np.arange(count) // draws
    shown = np.stack([rng.integers(0, items, history) for _ in range(users[-1] + 1)])
    candidates = np.stack([rng.choice(items, size, replace=False) for _ in range(count)])
    prompts = [
        np.concatenate([instruction, *(titles[item] for item in [*shown[user], *own]), [0]])
        for user, own in zip(users, candidates, strict=True)
    ]
    return Sets(prompts, users, [np.append(title, 1) for title in titles], candidates)


def scoring_contest(model: Any, sets: Sets, batch_tokens: int) -> dict[str, Callable[[], np.ndarray]]:
    """Ways to the log-probability (B, C) of each candidate behind its prompt; the last, the floor, only reads prompts.

    The two without recnb take prompt after prompt, all C candidates in one batch, as one would write it; they make no
    more logits than they need.
    """

    def ours(groups: np.ndarray | None) -> np.ndarray:
        return score_answers(model, sets.prompts, sets.answers, sets.candidates, "sum", batch_tokens, groups=groups)

    def theirs(score: Callable[[Any, Tensor, list[Tensor]], Tensor]) -> np.ndarray:
        answers, prompts = ([torch.from_numpy(ids) for ids in part] for part in (sets.answers, sets.prompts))
        with inference(model) as causal:
            rows = zip(prompts, sets.candidates, strict=True)
            found = [score(causal, prompt, [answers[item] for item in own]) for prompt, own in rows]
        return torch.stack(found).cpu().numpy()

    return {
        "recnb, sets of a user together": lambda: ours(sets.users),
        "recnb, each prompt by itself": lambda: ours(None),
        "one forward per candidate": lambda: theirs(_whole),
        "cache repeated per candidate": lambda: theirs(_repeated),
        "prefill alone": lambda: _prefill(model, sets.prompts, batch_tokens),
    }


def _whole(causal: Any, prompt: Tensor, answers: list[Tensor]) -> Tensor:
    """(C,) scores: every candidate reads prompt and title."""
    ids = pad_sequence([torch.cat([prompt, answer]) for answer in answers], batch_first=True).to(causal.device)
    wanted, real = _padded(answers, causal.device)
    logits = causal(input_ids=ids, use_cache=False, logits_to_keep=wanted.shape[1] + 1).logits[:, :-1]
    return _summed(logits, wanted, real)


def _repeated(causal: Any, prompt: Tensor, answers: list[Tensor]) -> Tensor:
    """(C,) scores: the prompt is read once, its keys and values are copied to the candidates."""
    wanted, real = _padded(answers, causal.device)
    read = causal(input_ids=prompt[None].to(causal.device), past_key_values=DynamicCache(), logits_to_keep=1)
    read.past_key_values.batch_repeat_interleave(len(answers))
    logits = causal(input_ids=wanted[:, :-1], past_key_values=read.past_key_values).logits
    return _summed(torch.cat([read.logits.expand(len(answers), -1, -1), logits], dim=1), wanted, real)


def _padded(answers: list[Tensor], device: Any) -> tuple[Tensor, Tensor]:
    """(C, L) titles padded on the right, and where they are real."""
    real = pad_sequence([torch.ones_like(answer) for answer in answers], batch_first=True).bool()
    return pad_sequence(answers, batch_first=True).to(device), real.to(device)


def _summed(logits: Tensor, wanted: Tensor, real: Tensor) -> Tensor:
    gains = logits.float().log_softmax(-1).gather(2, wanted[..., None])[..., 0]
    return (gains * real).sum(-1)


def _prefill(model: Any, prompts: Sequence[np.ndarray], batch_tokens: int) -> np.ndarray:
    """(B, d) states behind the prompts, in the same batches as ours."""
    states: list[np.ndarray] = [np.zeros(0)] * len(prompts)
    with inference(model) as causal:
        for rows in length_batches(np.array(list(map(len, prompts))), len(prompts), batch_tokens):
            ids, mask = (part.to(causal.device) for part in pad_left([prompts[row] for row in rows]))
            found = causal.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, -1]
            for row, state in zip(rows, found.float().cpu().numpy(), strict=True):
                states[row] = state
    return np.stack(states)
