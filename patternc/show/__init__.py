"""Pictures of patterns: `picture` computes one, `halfblocks` prints it in a terminal, `figure` writes PNG or SVG."""
