"""More kinds of notes than `chaos.notes` has."""

KILLED, WRONG, FAILED = 0, 14, 15  # it kills itself; a node has not found what it should; it ended by raising
SUBMITTING, SUBMITTED = 3, 4  # of a workflow: its number is that of its first node
