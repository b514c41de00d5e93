"""Families of weights that think, as small templates that end as the families' own do and know the same switches.

Written for these tests: what comes before the last turn is cut down to what a short conversation needs.
"""

from dataclasses import dataclass

from sestet.contract.deltas import Weights
from sestet.turn.template import ChatTemplate
from tests.unit.turn.families import GEMMA, LLAMA_3, SMOLLM2


@dataclass(frozen=True, slots=True)
class ThinkingFamily:
    """`row` is its profile. Where the assistant's turn begins (`turn`), the prompt ends with `standard` where no
    thought is wanted and with `thinking` where one is; `closed` is what the family writes for the thought `Hm.` up to
    the first word of the answer."""

    name: str
    template: str
    row: str
    turn: str
    standard: str
    thinking: str
    closed: str

    def compiled(self) -> ChatTemplate:
        return ChatTemplate(Weights(4096, self.template, "", "", ()))


CHATML_TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)

QWEN3 = ThinkingFamily(
    "Qwen3",
    CHATML_TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}",
    row="qwen",
    turn="<|im_start|>assistant\n",
    standard="<think>\n\n</think>\n\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n\n",
)

ALWAYS_OPENS = CHATML_TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"

QWEN3_THINKING = ThinkingFamily(
    "Qwen3-Thinking-2507",
    ALWAYS_OPENS,
    row="qwen",
    turn="<|im_start|>assistant\n",
    standard="<think>\n\n</think>\n\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n\n",
)

QWQ = ThinkingFamily(
    "QwQ",
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe thorough.<|im_end|>\n' }}{% endif %}"
    + ALWAYS_OPENS,
    row="qwen",
    turn="<|im_start|>assistant\n",
    standard="<think>\n\n</think>\n\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n\n",
)

DEEPSEEK_TURNS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% elif m.role == 'system' %}"
    "{{ m.content }}{% else %}{{ '<｜Assistant｜>' + ASSISTANT + m.content.split('</think>')[-1]"
    " + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
)

R1_DISTILL = ThinkingFamily(
    "DeepSeek-R1 distill",
    DEEPSEEK_TURNS.replace("ASSISTANT", "''")
    + "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}",
    row="deepseek",
    turn="<｜Assistant｜>",
    standard="<think>\n\n</think>\n\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n\n",
)

R1_0528_DISTILL = ThinkingFamily(
    "DeepSeek-R1-0528 distill",
    DEEPSEEK_TURNS.replace("ASSISTANT", "''") + "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}",
    row="deepseek",
    turn="<｜Assistant｜>",
    standard="<think>\n\n</think>\n\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n\n",
)

DEEPSEEK_V31 = ThinkingFamily(
    "DeepSeek-V3.1",
    DEEPSEEK_TURNS.replace("ASSISTANT", "'</think>'")
    + "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% if thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}"
    "{% endif %}{% endif %}",
    row="deepseek-v3",
    turn="<｜Assistant｜>",
    standard="</think>",
    thinking="<think>",
    closed="<think>Hm.</think>",
)

GPT_OSS = ThinkingFamily(
    "gpt-oss",
    "{{ '<|start|>system<|message|>Reasoning: ' + (reasoning_effort if reasoning_effort is defined else 'medium')"
    " + '\n# Valid channels: analysis, commentary, final.<|end|>' }}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}"
    "{% else %}{{ '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' }}"
    "{{ m.content + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
    row="gpt-oss",
    turn="<|start|>assistant",
    standard="<|channel|>final<|message|>",
    thinking="<|channel|>analysis<|message|>",
    closed="<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>",
)

GLM_45 = ThinkingFamily(
    "GLM-4.5",
    "[gMASK]<sop>\n{%- set off = enable_thinking is defined and not enable_thinking %}"
    "{%- for m in messages %}{%- if m.role == 'assistant' %}"
    "{{- '<|assistant|>\n<think></think>\n' + m.content.split('</think>')[-1].strip() }}"
    "{%- elif m.role == 'user' %}{{- '<|user|>\n' + m.content + ('/nothink' if off else '') }}"
    "{%- else %}{{- '<|system|>\n' + m.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' + ('\n<think></think>' if off else '') }}{%- endif %}",
    row="glm",
    turn="<|assistant|>",
    standard="\n<think></think>",
    thinking="\n<think>",
    closed="\n<think>Hm.</think>\n",
)

SMOLLM3 = ThinkingFamily(
    "SmolLM3",
    "{% if not enable_thinking is defined %}{% set enable_thinking = true %}{% endif %}"
    "{{ '<|im_start|>system\nReasoning Mode: ' + ('/think' if enable_thinking else '/no_think') }}"
    "{{ '\nYou are SmolLM, write <think> and </think>.\n' }}"
    + CHATML_TURNS
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}",
    row="smollm3",
    turn="<|im_start|>assistant\n",
    standard="<think>\n\n</think>\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n",
)

MAGISTRAL = ThinkingFamily(
    "Magistral",
    "{{ '<s>[SYSTEM_PROMPT]' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}"
    "{% set rest = messages[1:] %}{% else %}{{ 'Think like this: [THINK]draft[/THINK]answer' }}"
    "{% set rest = messages %}{% endif %}{{ '[/SYSTEM_PROMPT]' }}"
    "{% for m in rest %}{% if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ m.content + '</s>' }}"
    "{% else %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}{% endif %}{% endfor %}",
    row="magistral",
    turn="[/INST]",
    standard="",
    thinking="[THINK]",
    closed="[THINK]Hm.[/THINK]",
)

SEED_OSS = ThinkingFamily(
    "Seed-OSS",
    "{% set bos_token = '<seed:bos>' %}{% set eos_token = '<seed:eos>' %}{% set open = '<seed:think>' %}"
    "{% for m in messages %}{{ bos_token + m.role + '\n' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}"
    "{% if thinking_budget is defined and thinking_budget == 0 %}{{ open + '<seed:cot_budget_reflect>' }}{% endif %}"
    "{% endif %}",
    row="seed-oss",
    turn="<seed:bos>assistant\n",
    standard="<seed:think></seed:think>\n",
    thinking="<seed:think>",
    closed="<seed:think>Hm.</seed:think>\n",
)

OTHER_TAGS = ThinkingFamily(
    "another family with tags",
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '</s>' }}{% endfor %}"
    "{# it was trained to write <think> first #}{% if add_generation_prompt %}{{ '<bot>' }}{% endif %}",
    row="think-tags",
    turn="<bot>",
    standard="<think>\n\n</think>\n\n",
    thinking="<think>\n",
    closed="<think>\nHm.\n</think>\n\n",
)

TRAINED_TO_THINK = (
    QWEN3,
    QWEN3_THINKING,
    QWQ,
    R1_DISTILL,
    R1_0528_DISTILL,
    DEEPSEEK_V31,
    GPT_OSS,
    GLM_45,
    SMOLLM3,
    MAGISTRAL,
    SEED_OSS,
    OTHER_TAGS,
)

# Weights that were not trained to think: an instruction makes them, and the tags are the profile's.
ELICITED = tuple(
    ThinkingFamily(
        family.name,
        family.template,
        row=row,
        turn=turn,
        standard="",
        thinking="<think>\n",
        closed="<think>\nHm.\n</think>\n\n",
    )
    for family, row, turn in (
        (SMOLLM2, "smollm2", "<|im_start|>assistant\n"),
        (LLAMA_3, "llama3", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        (GEMMA, "generic", "<start_of_turn>model\n"),
    )
)
