"""The rates of a run over its steps."""


def rate_factor(step: int, steps: int, warmup: int, decay_from: float) -> float:
    """Factor of the rates at `step` (from 0) of `steps`: up over `warmup`, level, down to 0 at the end."""
    # a run that ends before its warm-up does would hardly learn
    warmup = min(warmup, steps // 4)
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    remaining = max(steps * (1 - decay_from), 1e-9)
    return rise * min(1.0, max(0.0, (steps - step) / remaining))
