"""Methods for scores or features of a trained model: a file here is a method."""
