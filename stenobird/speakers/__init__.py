"""Who speaks when: segmentation and voice embeddings in a child process, clusters of voices, labels."""
