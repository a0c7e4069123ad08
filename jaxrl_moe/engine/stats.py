"""What an engine has done so far, in numbers."""
import dataclasses


@dataclasses.dataclass
class Totals:
    """tokens: drawn ones; prefill_tokens: whose keys and values were computed for a sequence before it went
    on; reused_tokens: whose keys and values were there already, from other sequences; seconds: inside step(),
    compilation included; rows: sequences decoded, summed over chunks; kept_mass: probability that truncation
    left, summed over drawn tokens."""
    tokens: int = 0
    prefill_tokens: int = 0
    reused_tokens: int = 0
    seconds: float = 0.0
    chunks: int = 0
    rows: int = 0
    kept_mass: float = 0.0

    def add_chunk(self, rows: int, tokens: int, kept_mass: float) -> None:
        self.chunks += 1
        self.rows += rows
        self.tokens += tokens
        self.kept_mass += kept_mass

    def summary(self, slots: int) -> dict[str, float]:
        """With occupancy, the mean share of slots at work, and kept_mass as a mean per token."""
        return {"tokens": self.tokens, "prefill_tokens": self.prefill_tokens,
                "reused_tokens": self.reused_tokens, "seconds": self.seconds,
                "tokens_per_s": self.tokens / max(self.seconds, 1e-9),
                "occupancy": self.rows / max(self.chunks * slots, 1),
                "kept_mass": self.kept_mass / max(self.tokens, 1)}
