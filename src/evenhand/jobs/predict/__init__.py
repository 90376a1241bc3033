"""`evenhand predict`: a model on new patients."""
