"""The process on a node: it observes, lets the rules decide, and carries out what they say."""
