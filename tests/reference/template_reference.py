# SPDX-License-Identifier: Apache-2.0
"""Renders chat templates and single expressions with PyPI `jinja2`, set up as transformers does, and
writes the answers to tests/golden/chat_templates.txt. Needs: pip install jinja2.

    python tests/reference/template_reference.py

The templates are written in the styles that published models use. An answer "error" means that the
reference raised; which words it used is not compared.
"""
import datetime
import json
import pathlib

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "chat_templates.txt"
NOW = datetime.datetime(2024, 7, 26, 13, 5, 9, tzinfo=datetime.timezone.utc)

CONVERSATIONS = {
    "one": (True, [("user", "Hello, world!", "")]),
    "three": (False, [("system", "Be  brief.\n", ""), ("user", " Hi <|im_end|>\n", "Ann"),
                      ("assistant", "Hello 'Ann' \"A\" \\ 🙂", "")]),
    "four": (True, [("user", "first", ""), ("assistant", "<think>hm</think>\n\nyes", ""),
                    ("user", "sécond\tTab\r\nline\u2028", ""), ("tool", '{"a": [1, 2]}', "look_up")]),
    "talk": (True, [("user", "2 + 2?", ""), ("assistant", " 4.", ""), ("user", "And\n\n<3>? ", "")]),
    "none": (True, []),
    "odd": (True, [("assistant", "I begin", ""), ("wizard", "", "")]),
}

TEMPLATES = {
    "smollm2": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "chatml_plain": """{%- for m in messages -%}
<|im_start|>{{ m.role }}{% if m.name %} name={{ m.name }}{% endif %}

{{ m.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif %}
""",
    "llama3": """{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if strftime_now is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- else %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{#- The system message is taken out. #}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported.') }}
    {%- endif %}
{%- endfor %}
""",
    "qwen_tools": """{%- macro render(m, tag='tool_response') -%}
<{{ tag }}>
{{ m.content }}
</{{ tag }}>
{%- endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools' }}
    {%- for tool in tools %}
        {{- "\\n" }}{{- tool | tojson }}
    {%- endfor %}
{%- elif messages and messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set reasoning = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last or (not loop.last and reasoning) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n' + render(message) }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "gemma": """{{ bos_token }}{% if messages|length > 0 and messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% else %}
  {# nobody #}
    {% continue %}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
    "llama2": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "llama3_short": """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}""",
    "qwen2": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "qwen25": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "mistral_v1": """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}""",
    "phi3": """{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}""",
    "gemma3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""",
    "deepseek_v2": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}""",
    "deepseek_v3": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = true -%}{%- for tool in message['tool_calls'] %}{{ tool['type'] }}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}""",
    "groups": """{% set roles = messages | map(attribute='role') | unique | list %}
{% for role in roles if role != 'tool' %}
{{ loop.index }}/{{ loop.length }} {{ role | capitalize }}: {% for m in messages | selectattr('role', 'equalto', role) %}
{{ m.content | trim | upper }}{{ ", " if not loop.last }}
{%- else %}
nothing
{%- endfor %}

{% else %}
nobody
{% endfor %}
{% set all -%}
  {{ messages | map(attribute='content') | join(' / ') }}
{%- endset %}
{{ all | length }} {{ all | replace('i', '!') | title }}
{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role | default('-') }};{% endfor %}
{% for k, v in messages[0].items() %}{{ k }}={{ v | tojson }} {% endfor %}""",
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 / 2, 2 ** 10
-7.5 // 2, -7.5 % 2, 1e3, 1.0, 0.1 + 0.2, 1e16, 1e-5, 123456789.0, 1e22
2 ** -1
2 * 3 ** 2, -2 ** 2, 2 ** 3 ** 2
'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'b']
'a' 'b' "c"
'x' * 3, [0] * 2, 2 * 'ab', 'x' * -1
[1, 2] + [3]
1 < 2 < 3, 1 < 3 < 2, 3 > 2 >= 2, 1 == 1.0, 1 == true, 'a' < 'b', 'a' == 1, none == none
1 != 2, [1, 2] == [1, 2], {'a': 1} == {'a': 1}, (1, 2) == [1, 2], [1, 2] < [1, 3]
'a' in 'cat', 'a' not in 'cat', 1 in [1, 2], 'k' in {'k': 1}, 3 not in (1, 2)
not true, not 0, not '', true and 'x', false and 'x', '' or 'y', none or 0
not 1 == 2 and not false
1 if true else 2, 1 if false else 2, 1 if false
'yes' if 1 < 2 and 2 < 3 else 'no'
[1, 2, 3][0], [1, 2, 3][-1], [1, 2, 3][7], 'héllo'[1], {'a': 5}['a'], {'a': 5}.a
[0, 1, 2, 3, 4][1:3], [0, 1, 2, 3, 4][::-1], [0, 1, 2, 3, 4][::2], [0, 1, 2][5:], [0, 1, 2][-2:]
'héllo'[1:3], 'héllo'[::-1], 'abc'[:-1], 'abc'[5:1], 'abcdef'[4:1:-2], 'abc'[-9:9]
(1,), (), (1, 2), [], {}, {'a': {'b': [1, none, true]}}
"it's", 'say "hi"', 'both \' and "', 'tab\tnew\nline', ['it\'s', 'tab\t', 'say "x"', 'a\\b', '\x01é\xa0']
'\x41\u00e9\U0001F642\101\q'
'abc'|length, [1, 2]|count, {'a': 1}|length, 'héé'|length, nothing|length
'  x y '|trim, ' x'|trim ~ '|', 'xxaxx'|trim('x')
'a b c'|upper, 'ÀB'|lower, 'hello WORLD foo-bar'|title, 'hELLO'|capitalize, "it's a dog's"|title
"it's a dog's".title(), 'hello WORLD'.capitalize(), 'ab'.upper(), 'AB'.lower()
[1, 2, 3]|join(', '), ['a', 'b']|join, 'abc'|join('-'), [{'x': 1}, {'x': 2}]|join('+', attribute='x')
[1, 2]|first, [1, 2]|last, 'abc'|first, 'abc'|last, []|first
nothing|default('d'), ''|default('d'), ''|default('d', true), none|default('d'), nothing|d
'a.b.c'|replace('.', '-'), 'aaa'|replace('a', 'b', 2), 'abc'|replace('', '-')
'a.b.c'.replace('.', '-'), 'aaa'.replace('a', 'b', 1)
{'b': 1, 'a': [1, 2.5, none, true, 'x"y\n\u00e9</tag>&\'']}|tojson
{'b': 1, 'a': [1, {}], 'e': []}|tojson(indent=2)
'x'|tojson, 1.0|tojson, [1, 2]|tojson(indent=4), []|tojson, [[], [1]]|tojson(indent=1)
{'a': 1, 'b': 2}|items|list, {'a': 1}|list, 'abc'|list, (1, 2)|list
[1, 2, 3, 4]|select('odd')|list, [1, 2, 3, 4]|reject('even')|list, [0, 1, '']|select|list
[{'a': 1}, {'a': 2}, {}]|selectattr('a')|list, [{'a': 1}, {'a': 2}]|rejectattr('a', 'eq', 2)|list
none|selectattr('a')|list|length, none|rejectattr('a', 'equalto', 1)|list, none|map('upper')|list, 0|select|list, false|map(attribute='a')|list
[{'a': 1}, {'b': 2}]|selectattr('a', 'defined')|list, [{'a': 1}, {}]|map(attribute='a', default=0)|list
['a', 'b']|map('upper')|list, ['a', 'b']|map('replace', 'a', 'c')|list, [{'a': {'b': 3}}]|map(attribute='a.b')|list
'42'|int, ' 7 '|int, 'x'|int, 'x'|int(5), 3.9|int, -3.9|int, '3.7'|int, true|int, none|int
'4.5'|float, 'x'|float, 3|float, 'x'|float(1.5)
3|string, none|string, [1]|string, 1.5|string ~ 'x'
'a\nb\n\nc'|indent, 'a\nb'|indent(2), 'a\nb'|indent(2, true), 'a\n\nb'|indent(1, true, true), 'a\nb'|indent('> ')
[3, 1, 2]|sort, ['b', 'A', 'c']|sort, [3, 1]|sort(reverse=true), [{'k': 2}, {'k': 1}]|sort(attribute='k')
[1, 2, 1]|unique|list, [1, 2]|reverse|list, 'abc'|reverse, -3|abs
nothing is defined, 1 is defined, nothing is undefined, none is none, none is not none, 1 is none
'a' is string, 1 is string, {} is mapping, [] is mapping, [] is iterable, 1 is iterable, 'a' is sequence
1 is number, 1.5 is number, true is number, 'a' is number, true is boolean, 1 is boolean, 1 is integer, 1.0 is float
true is true, 1 is true, false is false, none is false, 3 is odd, 4 is even, 9 is divisibleby 3, 9 is divisibleby(2)
1 is eq 1, 1 is ne(2), 2 is gt 1, 1 is lt(2), 1 is in [1, 2], 'a' is in('abc'), 'ab' is lower, 'AB' is upper
not nothing is defined, nothing is not defined and 1 is defined
' x '.strip() ~ '|', ' x '.lstrip() ~ '|', ' x '.rstrip() ~ '|', 'xxaxx'.strip('x'), 'abcab'.rstrip('ba'), 'éaé'.strip('é')
'a,b,c'.split(','), ' a  b '.split(), 'a,b,c'.split(',', 1), 'a--b'.split('--')[-1], ''.split(','), ''.split(), 'a b c'.split(none, 1)
'abc'.startswith('ab'), 'abc'.endswith('bc'), 'abc'.startswith(('x', 'a')), 'a\nb\r\nc\n'.splitlines()
'abcabc'.find('c'), 'abc'.find('z'), 'abcabc'.count('bc'), '-'.join(['a', 'b']), '12'.isdigit(), 'x1'.isdigit()
'prefix-x'.removeprefix('prefix-'), 'x.txt'.removesuffix('.txt')
{'a': 1}.get('a'), {'a': 1}.get('b'), {'a': 1}.get('b', 2), {'a': 1, 'b': 2}.keys()|list, {'a': 1, 'b': 2}.values()|list, {'a': 1}.items()|list
range(3)|list, range(1, 4)|list, range(5, 0, -2)|list, range(0)|list, dict(a=1, b='x'), dict({'a': 1}, b=2)
namespace(a=1).a, namespace({'a': 2}).a, namespace().b is defined
strftime_now('%Y-%m-%d'), strftime_now('%d %B %Y, %H:%M:%S'), strftime_now('%A %j')
messages|length, messages[0].role, messages[0]['content'], messages[-1].role, messages[9] is defined
messages[0].nothing is defined, messages[0].get('name', 'nobody'), messages|map(attribute='role')|join(',')
tools is none, documents is none, bos_token + eos_token, add_generation_prompt
nothing, nothing ~ 'x', nothing == nothing, nothing or 'x', [nothing], nothing|list, nothing|join
nothing.x
nothing + 1
nothing()
nothing['x']
'a' + 1
1 + 'a'
1 / 0
1 // 0
'a' < 1
none.x is defined, none|length
[1, 2]|join(1)
'x' in 5
1(2)
raise_exception('stop')
{'a': 1}.update({'b': 2})
[1].append(2)
''.__class__.__mro__
messages.__class__
(1).__class__ is defined
x y
1 +
(1
[1, 2
{'a' 1}
1 is nosuchtest
1|nosuchfilter
'unclosed
"""

STATEMENTS = r"""
a  {%- if true -%}  b  {%- endif -%}  c
a\n  {% if true %}\n  b\n  {% endif %}\n  c\n
a\n  {%+ if true %}\n  b\n  {%+ endif +%}\n  c\n
a {# note #} b\n  {# note #}\n c {#- x -#} d
{{ 1 }}\n{{ 2 -}}\n  {{- 3 }}\n\n
\n\n{% set x = 1 %}\n\n{{ x }}\n\n
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}
{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}
{% if false %}a{% elif 0 %}b{% elif '' %}c{% else %}d{% endif %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}
{% for a, b in [(1, 2), (3, 4)] %}{{ a }}-{{ b }};{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %}{% for i in [1] if i > 1 %}x{% else %}filtered{% endfor %}
{% for i in range(6) if i % 2 %}{{ loop.index }}:{{ i }}:{{ loop.last }} {% endfor %}
{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}
{% for i in range(2) %}{% for j in range(2) %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}
{% for i in 'ab' %}{{ i }}{% endfor %}{{ i is defined }}{% for k in {'x': 1, 'y': 2} %}{{ k }}{% endfor %}
{% macro f(a, b=2) %}[{{ a }},{{ b }},{{ c }}]{% endmacro %}{% set c = 9 %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}{{ f() }}
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}{{ f(2) | length }}
{% macro f() %}{{ x }}{% endmacro %}{% for x in [1] %}{{ f() }}{% endfor %}|{% set x = 2 %}{{ f() }}
{% set t %}  a {{ 1 }} b {% endset %}[{{ t | trim }}]{% set u | upper | trim %} x {% endset %}[{{ u }}]
{% filter upper %}abc{{ 'x' }}{% endfilter %}{% filter replace('a', 'b') | trim %} aa {% endfilter %}|
{% raw %}{{ x }} {% if %}{% endraw %}{{ 1 }}
a\n{% raw -%}  x  {%- endraw %}\nb
{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': 1}}}
{% if messages %}{{ messages[0].role }}{% endif %}{% if not messages %}none{% endif %}
{% for m in messages %}{{ m.role }}{{ '' if loop.last else ',' }}{% endfor %}
{% for m in messages[1:] %}{{ loop.index }}{{ m['role'] }}{% endfor %}
{%- for m in messages if m.role == 'user' -%} {{ m.content }} {%- endfor -%}
{% for m in messages %}{{ m }}{% endfor %}
{{ messages | tojson(indent=2) }}
{{ messages | string }}
{% for m in messages %}{{ m.content | tojson }}{{ m.content | length }}{{ m.content[:3] }}{{ m.content.split()|join('+') }}{% endfor %}
{% for m in messages %}{{ (m.role + ': ' + m.content)|trim|replace('l', 'L')|title|indent(2) }}{% endfor %}
{% set x = 'a' %}{% if true %}{% set x = 'b' %}{% endif %}{{ x }}
line one\r\nline two\rline three\n
{{ '{{' }}{{ '%}' }}{# {{ #}{{ "}}" }}
{% generation %}x{{ 1 }}{% endgeneration %}
{% for i in 5 %}{% endfor %}
{% for i in none %}{% endfor %}
{% set a, b = [1] %}
{% set nothing.x = 1 %}
{% if %}{% endif %}
{% if true %}
{% for x in y
{% endfor %}
{% endif %}{% if 1 %}
{% nosuchtag %}
{{ 1 }
{{ }}
{% for 1 in x %}{% endfor %}
{% macro f( %}{% endmacro %}
{# unclosed
{% raw %} unclosed
{% else %}
"""


def environment():
    def raise_exception(message):
        raise ValueError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                         extensions=[loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = NOW.strftime
    return made


def render(source, conversation):
    prompt, messages = CONVERSATIONS[conversation]
    given = [{"role": r, "content": c, **({"name": n} if n else {})} for r, c, n in messages]
    # The generation tag is transformers' own; without training it only groups.
    source = source.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    try:
        return environment().from_string(source).render(
            messages=given, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>",
            tools=None, documents=None)
    except Exception:
        return None


def escape(text):
    for plain, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return text


def main():
    lines = []
    for name, (prompt, messages) in CONVERSATIONS.items():
        lines.append(f"conversation {name} {int(prompt)}")
        for role, content, who in messages:
            lines += [f"role {escape(role)}", f"content {escape(content)}", f"name {escape(who)}"]
    cases = [(t, c) for t in TEMPLATES.values() for c in CONVERSATIONS]
    for line in EXPRESSIONS.strip().split("\n"):
        cases.append(("{{ " + line + " }}", "four"))
    for line in STATEMENTS.strip("\n").split("\n"):
        source = line.replace("\\r", "\r").replace("\\n", "\n")
        cases += [(source, "three"), (source, "none")]
    last = None
    for source, conversation in cases:
        if source != last:
            lines.append(f"template {escape(source)}")
        last = source
        answer = render(source, conversation)
        lines.append(f"with {conversation}")
        lines.append("error" if answer is None else f"gives {escape(answer)}")
    GOLDEN.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
