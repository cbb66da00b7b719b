"""The text side of an engine: tokenizer, template, detokenizer, constraints. Imports no runtime."""
