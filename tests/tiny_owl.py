"""A tiny OWLv2 with random weights and a tokenizer of single letters, as `save_pretrained` writes them."""

import torch
from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
TOKENS = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def save(folder):
    """Write a checkpoint with its processor and return its folder."""
    ids = {token: number for number, token in enumerate(TOKENS)}
    start, end = ids["<|startoftext|>"], ids["<|endoftext|>"]
    text = {"vocab_size": len(ids), "max_position_embeddings": 32, "bos_token_id": start, "eos_token_id": end}
    vision = {"image_size": 64, "patch_size": 16}
    torch.manual_seed(0)
    config = Owlv2Config(text_config=TOWER | text, vision_config=TOWER | vision, projection_dim=32)
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:  # fresh towers see every image alike, and fresh heads answer 0 or 1
                parameter.mul_(0.03 if "logit" in name or "box_head" in name else 3)
    model.save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab=ids, merges=[], model_max_length=32)
    processor = Owlv2Processor(
        image_processor=Owlv2ImageProcessor(size={"height": 64, "width": 64}), tokenizer=tokenizer
    )
    processor.save_pretrained(folder)
    return folder
