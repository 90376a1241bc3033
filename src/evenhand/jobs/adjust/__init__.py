"""`evenhand adjust`: apply mitigation methods to a trained model, without training it again."""
