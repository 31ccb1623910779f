"""What codecs and the web do to a picture."""
