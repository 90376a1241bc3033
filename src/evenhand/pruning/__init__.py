"""Pruning by curvature: saliency, masks, channels."""
