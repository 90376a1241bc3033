"""Jobs: what each command does, from top to bottom."""
