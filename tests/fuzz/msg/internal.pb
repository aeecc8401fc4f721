Ä"
foo¢
root	‚D
foo