"""Training, calibration, evaluation and export of the classifier (extra ``weir[train]``)."""
