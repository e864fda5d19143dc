"""A class and its arguments: one program for all of its networks, solved for one."""
