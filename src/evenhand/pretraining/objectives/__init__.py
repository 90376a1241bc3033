"""SSL objectives, one file each: a projection head, and a loss on two views of it."""
