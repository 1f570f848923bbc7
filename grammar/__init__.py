"""The grammar of .spat (`spat.lark`), its parser, and what to say about each mistake in the syntax."""
