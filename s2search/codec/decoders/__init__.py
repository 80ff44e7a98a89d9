"""Decoders of codecs as modules that exporters take: a chunk and what the chunks before it left in, tensors out."""
