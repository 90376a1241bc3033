"""FairPrune: remove the parameters that the privileged group needs and the others do not."""
