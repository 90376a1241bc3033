"""Stage 4: do two models represent each group alike? CKA of their layers, group by group."""
