"""Small dynamic programs, written as users write them; each decorated one is a row."""
