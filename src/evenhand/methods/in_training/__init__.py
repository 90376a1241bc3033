"""Training methods: each file is a method, and has its name."""
