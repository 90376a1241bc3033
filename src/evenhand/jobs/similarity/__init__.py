"""Stage 4, `evenhand similarity`: compare the layers of two models by CKA, for each group."""
