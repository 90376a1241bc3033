"""The second door: public functions on anybody's networks, loops and arrays."""
