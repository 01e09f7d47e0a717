"""For operators: look, check, mend."""
