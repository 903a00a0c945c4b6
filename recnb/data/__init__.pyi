from . import figures as figures
from .files import read_items as read_items
from .held_out import (
    HeldOut as HeldOut,
    hold_out as hold_out,
    ratings_given as ratings_given,
    read_held_out as read_held_out,
    write_held_out as write_held_out,
)
from .prepare import k_core_mask as k_core_mask
from .schema import (
    Dataset as Dataset,
    Sequences as Sequences,
    check_titles as check_titles,
    has_text as has_text,
    item_text as item_text,
    read_dataset as read_dataset,
    titles_of as titles_of,
    write_dataset as write_dataset,
)
from .sessions import (
    PARTS as PARTS,
    Samples as Samples,
    Sessions as Sessions,
    every_prefix as every_prefix,
    make_sessions as make_sessions,
    read_sessions as read_sessions,
    replace_test as replace_test,
    samples_of as samples_of,
    write_sessions as write_sessions,
)
from .sources import (
    load_dataset as load_dataset,
    load_parts as load_parts,
    load_ratings as load_ratings,
)
from .split import (
    Validation as Validation,
    histories as histories,
    replace_heldout as replace_heldout,
    seen_items as seen_items,
    training_sequences as training_sequences,
)
