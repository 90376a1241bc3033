"""`evenhand finetune`: fine-tune a model by one strategy, and report on it."""
