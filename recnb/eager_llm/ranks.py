"""What a comparison judges: the rank of each user's validation item, in the lists of a trained model or a baseline.

Seen items are kept, as in the papers. :mod:`recnb.studies.comparisons` asks here, by the names in the system's recipe.
"""

import numpy as np

from recnb.artifacts import Artifacts
from recnb.data.schema import item_text, read_dataset
from recnb.data.split import Validation, histories, training_sequences
from recnb.eager_llm.checkpoint import load_trained
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.eager_llm.recipe import EagerLLM
from recnb.evaluation.metrics import target_ranks
from recnb.index.build import read_index
from recnb.index.trie import Trie
from recnb.llm.beam import recommend
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import ranked_lists


def model_ranks(stage: Artifacts, recipe: EagerLLM, judged: str, users: int = 0) -> np.ndarray:
    """Ranks of the trained model.

    Args:
        stage: the last one of the run, opened to look at.
        recipe: how lists are made (``decode``); the rest as in the run.
        judged: ``model``, as 04_train left it, or ``annealed``, with the adapter of 05_anneal.
        users: this many users, drawn once per seed of the data, the same for every run; 0: all.

    Returns:
        (U,) int64 from 0; the beam's width where the item is not in the list.
    """
    chosen = Validation(*histories(read_dataset(stage), "valid", recipe.data.max_history)).sample(users, 0)
    model, vocabulary = load_trained(stage, adapter=judged == "annealed")
    before = recipe.train.con_position == "before_response"
    prompts = seqrec_prompts(vocabulary, chosen.histories, recipe.tasks, before)
    trie = Trie.from_tokens(vocabulary.item_tokens)
    lists, _ = recommend(model, prompts, trie, recipe.decode, progress=stage.runtime.progress)
    return target_ranks(lists, chosen.targets)


def baseline_ranks(stage: Artifacts, recipe: EagerLLM, judged: str, users: int = 0) -> np.ndarray:
    """The same for a baseline of 06_evaluate, fitted on training interactions with the recipe's settings.

    Whatever it chooses (its epoch) it chooses on all validation users, so that this is what tuning has to look at and
    not an estimate of quality. Returns (U,) int64 from 0; 20 (or N) where the list of so many items does not hold the
    target.
    """
    dataset, codes = read_dataset(stage), read_index(stage).source_codes("semantic") if judged == "tiger" else None
    everyone = Validation(*histories(dataset, "valid", recipe.data.max_history))
    fitted, _ = fit_baseline(
        judged, training_sequences(dataset), dataset.n_items, recipe.evaluate, recipe.data.max_history,
        seed=recipe.seed, validation=(everyone.histories, everyone.targets), device=stage.runtime.device,
        progress=stage.runtime.progress, codes=codes,
        texts=item_text(dataset.items, recipe.evaluate.words.fields),
    )  # fmt: skip
    chosen = everyone.sample(users, 0)
    return target_ranks(ranked_lists(fitted, chosen.histories, min(20, dataset.n_items)), chosen.targets)
