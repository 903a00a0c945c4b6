from . import figures as figures
from .chat import Reply as Reply, chat as chat, request_prompt as request_prompt
from .cost import Cost as Cost
from .exports import export_row as export_row
from .interface import (
    Bench as Bench,
    Learned as Learned,
    Ranker as Ranker,
    Retriever as Retriever,
    rankers as rankers,
)
from .recipe import SYSTEMS as SYSTEMS, Gallery as Gallery
from .table import (
    WHOLE as WHOLE,
    Entry as Entry,
    ask as ask,
    differences as differences,
    intervals as intervals,
    lay_bench as lay_bench,
    outcomes as outcomes,
    over_seeds as over_seeds,
    plain_rows as plain_rows,
    sets_for as sets_for,
)
