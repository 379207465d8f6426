"""The study: rival methods, selection by gain, a second world, the comparison and its pictures."""
