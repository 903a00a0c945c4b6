"""Settings of stage one, the intents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recnb.settings import Section

Source = Literal["llm", "file", "retrieval", "shuffled", "constant", "target", "state", "score"]


class IntentsConfig(Section):
    """04_intents: who says what a session wants."""

    source: Source = Field("retrieval", description="stub")
