"""Chat templates as real families ship them, with the control tokens of their vocabularies."""

from dataclasses import dataclass

from sestet.contract.deltas import Weights
from sestet.turn.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    template: str
    special_tokens: tuple[str, ...]
    bos_token: str = ""
    eos_token: str = ""

    def weights(self, special_tokens: tuple[str, ...] | None = None) -> Weights:
        specials = self.special_tokens if special_tokens is None else special_tokens
        return Weights(4096, self.template, self.bos_token, self.eos_token, specials)

    def compiled(self) -> ChatTemplate:
        return ChatTemplate(self.weights())

    def unguarded(self) -> ChatTemplate:
        """The same template for a vocabulary without control tokens: nothing is cut."""
        return ChatTemplate(self.weights(special_tokens=()))


CHATML = Family(
    "ChatML",
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "<|endoftext|>",
    "<|im_end|>",
)

SMOLLM2 = Family(
    "SmolLM2",
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<jupyter_start>"),
    "<|im_start|>",
    "<|im_end|>",
)

LLAMA_3 = Family(
    "Llama 3",
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim"
    " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
    "<|begin_of_text|>",
    "<|eot_id|>",
)

_ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)

MISTRAL = Family(
    "Mistral",
    "{{ bos_token }}{% for message in messages %}" + _ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"),
    "<s>",
    "</s>",
)

GEMMA = Family(
    "Gemma",
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}" + _ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<unused0>"),
    "<bos>",
    "<eos>",
)

FAMILIES = (CHATML, SMOLLM2, LLAMA_3, MISTRAL, GEMMA)
