"""How each fitted estimator is written as ONNX, in the arithmetic of its library.

One module a family of estimators. ``registry.write`` finds the writer for an object;
composite estimators call it for the estimators they hold.
"""
