"""Stage 1, `evenhand check`: measure whether a data set can support a study of fairness."""
