"""Numbers about a model, from arrays alone: metrics, calibration, mislabels, curve diagnosis."""
