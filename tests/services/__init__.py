"""Real servers on loopback: what they are, and how tests get hold of them."""
