"""`evenhand assess`: assess whether self-supervision makes a model fairer, in five stages."""
