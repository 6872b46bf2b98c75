"""Several targets a row: one estimator each, or a chain of them."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, tensor, write, writes
from converters.estimators.responses import matrix, numbers, prediction, response
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor


@writes("sklearn:MultiOutputClassifier")
def write_multi_output_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write one classifier a target."""
    answers = [write(graph, each, x) for each in model.estimators_]
    members = list(zip(answers, model.estimators_, strict=True))
    labels = [matrix(tensor(answer, "predict", each)) for answer, each in members]
    given: dict[str, Any] = {"predict": graph.concat(labels)}
    if all("predict_proba" in answer for answer in answers):
        given["predict_proba"] = [tensor(a, "predict_proba", each) for a, each in members]
    return given


@writes("sklearn:MultiOutputRegressor")
def write_multi_output_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write one regressor a target."""
    given = [prediction(write(graph, each, x), each) for each in model.estimators_]
    return {"predict": graph.concat(given)}


@writes("sklearn:ClassifierChain", "sklearn:RegressorChain")
def write_chain(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a chain: each estimator also sees what those before it said."""
    method = getattr(model, "chain_method_", "predict")
    methods = [
        name
        for name in ("predict", "predict_proba", "decision_function")
        if name == "predict" or all(hasattr(each, name) for each in model.estimators_)
    ]
    told: list[Tensor] = []
    said: dict[str, list[Tensor]] = {name: [] for name in methods}
    for each in model.estimators_:
        seen = Table(graph, (graph.concat([x.matrix(), *told]),))
        told.append(numbers(response(graph, each, seen, method)[0], each))
        for name in methods:
            said[name].append(numbers(response(graph, each, seen, name)[0], each))
    order = np.empty(len(model.order_), dtype=np.int64)
    order[np.asarray(model.order_)] = np.arange(len(order))
    return {name: graph.concat(columns).take(order) for name, columns in said.items()}
