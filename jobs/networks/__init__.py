"""Networks and their layers. Shapes: N images, C channels, H height, W width, D latent size, L layers with a style."""
