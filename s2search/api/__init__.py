"""The face: one function per command, of its words and options. `import s2search` offers them all.

A file here bears the name of the command's file in `s2search.cli`, and a function that of the command, its words joined
by an underline. Options are keywords of the same names; a value is the text of the command line or the value itself:
a path, a budget, a plan, a table, a plugin. A function returns what the command shows and writes; paths that a command
always writes are its first words here too, the other outputs are methods of what is returned.
"""
