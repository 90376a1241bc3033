"""Reading images and volumes."""
