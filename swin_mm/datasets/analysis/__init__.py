"""Says what went wrong in a test: scores a class, confusions, kinds of error, and the images with the worst of them."""
