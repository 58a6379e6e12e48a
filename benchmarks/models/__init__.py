"""Model families that no package ships, one per file."""
