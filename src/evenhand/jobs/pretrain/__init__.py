"""`evenhand pretrain`: train an encoder without labels, by a self-supervised objective."""
