"""`evenhand tune`, FairTune: search by validation fairness which parts of a network to tune."""
