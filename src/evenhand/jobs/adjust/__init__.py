"""`evenhand adjust`: methods for a trained model, without training again."""
