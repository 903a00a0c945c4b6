"""LLM2Rec-style (after He et al., KDD 2025): the model learns which title follows which, then gives the title vectors.

The first of that paper's two steps, on open prompts (no candidates, the answer is the next title); its second, a
contrast that makes the vectors, is left out. Question: did behaviour enter the vectors? They stand in the table as
LLMSeqSim's and as the start of a SASRec; the controls are the same two before tuning (``llm2rec/before``,
``textstart``), and the notebook asks how far neighbours agree with those of SASRec's table.
"""

from __future__ import annotations

from functools import partial

from recnb.gallery.interface import Bench, Ranker, title_vectors
from recnb.gallery.llmseqsim import DECAYS, Similar
from recnb.gallery.textstart import started
from recnb.recommenders.content import VectorSimilarity


def rankers(bench: Bench) -> list[Ranker]:
    """Similarity before and after tuning, and a SASRec that begins with what came out."""
    before = bench.untuned
    open_titles = partial(bench.titled, listed=False)
    model, learned = bench.tuned("bigrec", bench.text_only, open_titles)  # whose training is the same: done once
    after, decay = title_vectors(model, bench.prompts), DECAYS["llmseqsim"]
    return [
        Similar("llm2rec/before", VectorSimilarity(before - before.mean(0), decay)),
        Similar("llm2rec", VectorSimilarity(after - after.mean(0), decay), learned=learned),
        started(bench, "llm2rec/start", after, learned.examples),
    ]
