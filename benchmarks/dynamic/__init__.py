"""What becomes of each construct of dynamic Python: small programs, ours beside torch.compile."""
