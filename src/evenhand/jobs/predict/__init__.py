"""`evenhand predict`: score new patients with a run's model, and audit the scores."""
