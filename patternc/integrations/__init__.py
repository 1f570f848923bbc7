"""patternc inside other libraries, one module for each. Nothing here is imported unless it is asked for."""
