"""A title as it is said, and the turns that a chat model expects around what is said to it."""

from typing import Any

from jinja2 import TemplateError

from recnb.errors import RecnbError

UNCUT = 1_000_000  # characters
MARK = "LISTANDQUESTION"  # stands for the user's turn while a chat template is looked at


def without_brackets(title: str) -> str:
    """A title without brackets at its end; as it is where nothing else would be left.

    >>> without_brackets("Seven (Se7en) (1995)"), without_brackets("(500) Days of Summer"), without_brackets("(1995)")
    ('Seven', '(500) Days of Summer', '(1995)')
    """
    left = title
    while left.endswith(")"):  # a regular expression takes quadratic time over many of them
        inner = max(left.rfind("("), left.rfind(")", 0, -1))
        if inner < 0 or left[inner] == ")":
            break
        left = left[:inner].rstrip()
    return left or title


def chat_frame(tokenizer: Any, model: str = "llm.model") -> tuple[str, str]:
    """What a chat template writes before and behind one user's turn, the beginning of the model's own included."""
    turn = [{"role": "user", "content": MARK}]
    try:
        before, after = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True).split(MARK)
    except (TemplateError, ValueError) as error:
        raise RecnbError(
            f"{model}: its chat template does not write what a user says, once ({error}): choose another model, or "
            "take the template out of its tokenizer: without one, a model is asked to go on with a text"
        ) from None
    return before, after
