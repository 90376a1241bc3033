"""What may change in a network: units, masks, schedules, strategies, LoRA."""
