"""SSL objectives, one file each: a loss on two views, or a subclass of `Learner`."""
