"""What a pane of glass mirrors: a second photograph, or a room or a street made up."""
