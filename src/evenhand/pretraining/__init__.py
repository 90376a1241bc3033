"""Self-supervised objectives and views."""
