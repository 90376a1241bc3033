"""The assessment of a data set and of models trained on it, stage by stage."""
