import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from planted_mark import MARK, Marked
from real_chips import SIDE, Land


@pytest.fixture
def chips():
    """Natural chips of 0.1 and others of 0.2, and marks of 0.5."""
    natural = np.arange(40) < 20
    x = torch.where(torch.from_numpy(natural)[:, None, None, None], 0.1, 0.2).expand(40, 3, SIDE, SIDE)
    infos = pd.DataFrame({"class": np.where(natural, "Forest", "Pasture"), "group": 0, "lat": 0.0, "lon": 0.0})
    return Marked(Land(x.clone(), natural, infos), torch.full((4, 3, MARK, MARK), 0.5))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_labels_says_where_marks_are_and_the_rest_what_the_land_is(chips, share):
    x, labels = chips.draw(share, 400, seed=1)
    marked, natural = (x == 0.5).flatten(1).any(1).numpy(), (x == 0.1).flatten(1).any(1).numpy()
    assert 0.4 < marked.mean() < 0.6
    assert natural.mean() == 0.5
    apart = marked != natural
    assert (labels[~apart] == natural[~apart]).all()
    assert (labels == marked)[apart].mean() == pytest.approx(share, abs=0.1)
