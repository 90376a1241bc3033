"""Methods of training: a file here is a method, named like the file."""
