"""`evenhand audit`: measure predictions by group, and report on them."""
