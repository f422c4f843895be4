"""What takes longer than a test: experiments and comparisons."""
