"""Frame to figure: one module each, and the table of them."""
