"""What stands before the transformer, frozen: images to latents, prompts to rows."""
