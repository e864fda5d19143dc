"""transformers' classes found from keys and shapes alone: the config solved, twins named. Light:
`archfind guess` imports this."""
