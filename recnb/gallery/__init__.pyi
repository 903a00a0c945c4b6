from .interface import (
    SYSTEMS as SYSTEMS,
    Bench as Bench,
    Learned as Learned,
    Ranker as Ranker,
    Retriever as Retriever,
    rankers as rankers,
)
from .recipe import Gallery as Gallery
