"""Where the pieces of a large job are worked on: this machine's cores, or other machines."""
