"""Which jumps of the answer are asked of a conversion: those that the model itself decides."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from tests.converters.conftest import Convert, Data

TEXTS = np.array(["no", "yes"], dtype=object)


@pytest.mark.parametrize("labels", [np.arange(2), TEXTS], ids=["numbers", "texts"])
def test_jumps_behind_a_scaler_are_asked(labels: Any, convert_model: Convert, cancer: Data) -> None:
    x, y = cancer
    forest = RandomForestClassifier(20, random_state=0)
    artifact = convert_model(make_pipeline(MinMaxScaler(), forest).fit(x, labels[y]), x)
    assert artifact.parity.kinds["jump"] > 0
    assert artifact.rung == "exact"


def test_jumps_that_the_order_of_a_sum_places_are_not(convert_model: Convert, cancer: Data) -> None:
    x, y = cancer
    forest = RandomForestClassifier(20, random_state=0)
    model = make_pipeline(StandardScaler(), PCA(3), forest).fit(x, y)
    artifact = convert_model(model, x)
    assert "jump" not in artifact.parity.kinds
    assert (artifact.rung, artifact.parity.label_mismatches) == ("exact", 0)
