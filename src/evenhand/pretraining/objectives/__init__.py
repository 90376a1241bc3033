"""SSL objectives, one file each: a loss on two views, or a class that says what a step does."""
