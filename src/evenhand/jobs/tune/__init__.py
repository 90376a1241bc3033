"""FairTune: search, on validation fairness, which parts of a network may change."""
