"""The commands of `pairforge`, one file each: arguments in, exit status out."""
