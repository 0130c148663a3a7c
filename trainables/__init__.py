"""One trial: configuration, data, parts, the training loop, and the Ray adapter."""
