"""`evenhand benchmark`: compare methods, strategies and starting weights on equal terms."""
