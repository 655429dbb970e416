"""How many bytes of a prompt make one token, learned per model from what engines report.

The index counts blocks of bytes, engines count tokens. English, code and Chinese differ by a factor of
three, chat templates add tokens that the router never sees: a ratio of sums, forgetting slowly, covers
all of it.
"""

from __future__ import annotations

from typing import Final

# Share of the past that one answer leaves: half of what is believed is younger than about 70 answers.
_KEEP: Final = 0.99

# No tokenizer in use is outside; a report that is, is an error or a prompt of images.
_LEAST_BYTES: Final = 0.5
_MOST_BYTES: Final = 32.0

# Model names come from clients when workers accept any: beyond this many the first guess serves.
_MODELS_MAX: Final = 1024


class TokenRatio:
    """State: two decayed sums, of bytes and of tokens, per model."""

    def __init__(self, bytes_per_token: float) -> None:
        self.first_guess = bytes_per_token
        self.known: dict[str, float] = {}
        """Bytes per token by model, where answers have told."""
        self.sums: dict[str, list[float]] = {}
        """Bytes and tokens by model, as they decay; not to be written from outside."""

    def bytes_per_token(self, model: str) -> float:
        """Reads."""
        return self.known.get(model, self.first_guess)

    def learn(self, model: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """Writes. One answer's count; implausible ones are ignored."""
        if not _LEAST_BYTES * prompt_tokens <= prompt_bytes <= _MOST_BYTES * prompt_tokens:
            return
        sums = self.sums.get(model)
        if sums is None:
            if len(self.sums) >= _MODELS_MAX:
                return
            sums = self.sums[model] = [0.0, 0.0]
        total_bytes = sums[0] = sums[0] * _KEEP + prompt_bytes
        total_tokens = sums[1] = sums[1] * _KEEP + prompt_tokens
        self.known[model] = total_bytes / total_tokens

    def restore(self, model: str, prompt_bytes: float, prompt_tokens: float) -> None:
        """Writes. The sums that an earlier router had come to; implausible ones are ignored."""
        if len(self.sums) < _MODELS_MAX and prompt_tokens > 0:
            ratio = prompt_bytes / prompt_tokens
            if _LEAST_BYTES <= ratio <= _MOST_BYTES:
                self.sums[model] = [prompt_bytes, prompt_tokens]
                self.known[model] = ratio
