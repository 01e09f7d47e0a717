"""The same kill at the end of the last member, for us and for others."""
