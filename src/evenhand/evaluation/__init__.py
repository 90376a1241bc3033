"""From predictions to metric rows: pairing, operating points, requests."""
