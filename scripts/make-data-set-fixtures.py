"""Writes test/fixtures/data-sets/: what data sets on the Hub look like, small. Needs pyarrow, transformers and jinja2.

The Parquet files are as the `datasets` library writes them: several row groups, Snappy or Zstandard, a list of structs for conversations.
chats.json holds what transformers' apply_chat_template makes of conversations, by templates that were written for this purpose in the manner of
those that well-known models have.
"""
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent.parent
OUT = HERE / "test/fixtures/data-sets"
OUT.mkdir(parents=True, exist_ok=True)

WORDS = "river stone lantern harbour copper window orchard winter thunder paper meadow engine silver bridge candle garden".split()


def prose(i, length):
    return " ".join(WORDS[(i * 7 + j * (i % 5 + 1)) % len(WORDS)] for j in range(length))


# A web text: one document a row, a column that nobody needs and that is larger than the text, one row without text.
rows = 60
noise = [" ".join(str((i * 2654435761 + j * 40503 * (j + 7)) % 2**32) for j in range(120)) for i in range(rows)]
texts = [f"Document {i}. " + prose(i, 20 + i % 13) for i in range(rows)]
texts[17] = None
pq.write_table(pa.table({"text": texts, "noise": noise, "id": list(range(rows))}), OUT / "texts.parquet", row_group_size=10, compression="snappy")

# Articles, a line a row, as WikiText has them.
lines = []
for article in range(9):
    lines += ["", f" = Article {article} = \n", "", f" First of {article} : {prose(article, 12)} . \n", "", f" = = Section of {article} = = \n", "", f" Last of {article} . \n"]
pq.write_table(pa.table({"text": lines}), OUT / "lines.parquet", row_group_size=30, compression="zstd")

# Conversations, as UltraChat has them.
chats = [[{"content": f"Question {i}: {prose(i, 5)}?", "role": "user"}, {"content": f"Answer {i}: {prose(i + 1, 9)}.", "role": "assistant"}] for i in range(24)]
pq.write_table(
    pa.table({"prompt": [chat[0]["content"] for chat in chats], "messages": pa.array(chats, pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())])))}),
    OUT / "chats.parquet", row_group_size=8, compression="snappy",
)

TEMPLATES = {
    "chatml": "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "headers": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{{- "<|head|>system<|end|>\n\nToday: " + date_string + "\n\n" }}
{%- if tools is not none %}{{- "Tools: " + tools | tojson }}{%- endif %}
{{- system_message + eos_token }}
{%- for message in messages %}
    {{- '<|head|>' + message.role + '<|end|>\n\n' + message['content'] | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|end|>\n\n' }}
{%- endif %}
""",
    "strict": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
    {% endif %}
    {% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start>' + role + '\n' + message['content'] | trim + '<end>\n' }}
{% endfor %}
""",
    "thinking": """{%- set ns = namespace(last=-1) -%}
{%- for m in messages[::-1] %}{%- set index = (messages | length - 1) - loop.index0 %}{%- if ns.last < 0 and m.role == 'user' %}{%- set ns.last = index %}{%- endif %}{%- endfor %}
{%- macro turn(role, text) -%}<{{ role }}>{{ text }}</{{ role }}>{%- endmacro -%}
{%- for m in messages %}
    {%- set content = m.content %}
    {%- if m.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- turn(m.role, content) }}{% if loop.last %}{% for i in range(3) %}{{ i }}{% endfor %}{{ range(5, 0, -2) | list }}{% endif %}
{%- endfor -%}""",
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello  there.\n"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}],
    [{"role": "user", "content": "One é 漢字 {{ braces }} {% x %} <s> 'quotes' \"more\""}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTwo"}, {"role": "user", "content": "\n Three\t"}],
    [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": ""}],
]

tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "test/fixtures/demo-model/tokenizer.json"), **TOKENS)
expected = {}
for name, template in TEMPLATES.items():
    expected[name] = []
    for conversation in CONVERSATIONS:
        try:
            expected[name].append({"text": tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False)})
        except Exception as error:  # jinja2's TemplateError
            expected[name].append({"refused": str(error)})
(OUT / "chats.json").write_text(json.dumps({"tokens": TOKENS, "templates": TEMPLATES, "conversations": CONVERSATIONS, "expected": expected}, ensure_ascii=False, indent=1) + "\n")
