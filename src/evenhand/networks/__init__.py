"""Networks and what may change in them: backbones, units, masks, strategies, checkpoints."""
