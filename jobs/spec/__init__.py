"""Everything a submitter may write, typed. Imports neither torch nor numpy: a wrong spec is refused in under a second."""
