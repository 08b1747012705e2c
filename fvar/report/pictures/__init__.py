"""Pictures that matplotlib draws, and the thumbnails in them."""
