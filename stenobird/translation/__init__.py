"""Text to text in another language: an NLLB or M2M-100 model on CTranslate2, in a child process."""
