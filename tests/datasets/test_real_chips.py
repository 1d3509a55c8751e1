"""The real chips that smoke tests learn from have the scale and the order of bands that the networks expect."""

from __future__ import annotations

import pytest
import torch

from spacex.settings import SENTINEL2_BANDS


@pytest.mark.real
def test_they_look_like_land(real_chips: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, label = real_chips
    assert x.shape == (8, 10, 256, 256)
    assert label.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    mean = dict(zip(SENTINEL2_BANDS, x.mean(dim=(0, 2, 3)).tolist(), strict=True))
    # vegetation: dark in red, bright in the near infrared, and nothing carries the +0.1 offset
    assert mean["B04"] < 0.1 < mean["B08"] < 0.5
    assert mean["B8A"] == pytest.approx(mean["B08"], rel=0.15)
    assert mean["B12"] < mean["B11"] < mean["B08"]
    assert x[:, 2].amin() < 0.03
