"""The one training loop, its losses and augmentation, and prediction."""
