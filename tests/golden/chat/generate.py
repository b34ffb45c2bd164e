#!/usr/bin/env python3
"""Makes templates.json: chat templates in the ways of many families, and what Jinja makes of them.

The templates are written for these tests; they use what published ones use. Needs jinja2 (3.1).
"""
import json
import pathlib

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Refused(Exception):
    pass


def raise_exception(message):
    raise Refused(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters['tojson'] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    env.globals['raise_exception'] = raise_exception
    env.globals['strftime_now'] = lambda form: {'%d %b %Y': '05 Mar 2024', '%Y-%m-%d': '2024-03-05'}[form]
    return env


USER = {'role': 'user', 'content': 'Hello, who are you?'}
ASSISTANT = {'role': 'assistant', 'content': " I'm a model.\n"}
AGAIN = {'role': 'user', 'content': '  And what is 2 + 2?\u3000'}
SYSTEM = {'role': 'system', 'content': ' Be brief. '}
THOUGHT = {'role': 'assistant', 'content': '<think>\nhm\n</think>\n\nFour.'}
CHATS = [
    [USER],
    [USER, ASSISTANT, AGAIN],
    [SYSTEM, USER],
    [SYSTEM, USER, THOUGHT, AGAIN],
    [USER, USER],
    [ASSISTANT],
    [USER, ASSISTANT],
]

LLAMA2 = """{% set chat = messages %}{% set opening = '' %}
{%- if messages[0]['role'] == 'system' -%}
{%- set opening = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' -%}{%- set chat = messages[1:] -%}
{%- endif -%}
{%- for m in chat -%}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must take turns') }}{%- endif -%}
{%- set content = (opening + m['content']) if loop.first else m['content'] -%}
{%- if m['role'] == 'user' -%}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif m['role'] == 'assistant' -%}{{ ' ' + content.strip() + ' ' + eos_token }}{%- endif -%}
{%- endfor -%}"""

LLAMA3 = """{% for m in messages %}{% set turn = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set turn = bos_token + turn %}{% endif %}{{ turn }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "01 Jan 2000" %}
    {%- endif %}
{%- endif %}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}

{#- The system's words come first, whoever has said them. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set words = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set words = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "never" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- words }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set words = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set users = turns | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for m in turns %}
    {%- if not (m.role == "tool" or m.role == "tool_results" or (m.tool_calls is defined and m.tool_calls is not none)) %}
        {%- if (m["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for m in turns %}
    {%- if m["role"] == "user" %}
        {%- if tools is not none and (m == users[-1]) %}
            {{- "[AVAILABLE_TOOLS] never" }}
        {%- endif %}
        {%- if loop.last and words is defined %}
            {{- "[INST] " + words + "\\n\\n" + m["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + m["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif m["role"] == "assistant" %}
        {{- " " + m["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
"""

CHATML = """{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

CHATML_OPEN_END = """{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

QWEN3 = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for m in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and m.role == "user" and m.content is string and not(m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.content is string %}
        {%- set content = m.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (m.role == "user") or (m.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif m.role == "assistant" %}
        {%- set thought = '' %}
        {%- if m.reasoning_content is string %}
            {%- set thought = m.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + m.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + m.role + '\\n' + content }}
        {%- endif %}
        {%- if m.tool_calls %}
            {%- for call in m.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('There is no place for a system') }}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must take turns') }}{% endif %}{% if (m['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for m in turns -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must take turns") }}
    {%- endif -%}
    {%- set role = "model" if m['role'] == 'assistant' else m['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}
    {%- if m['content'] is string -%}
        {{ m['content'] | trim }}
    {%- elif m['content'] is iterable -%}
        {%- for item in m['content'] -%}
            {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("a content of another kind") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_tool=false, words='') %}{%- for m in messages %}{%- if m['role'] == 'system' %}{% set ns.words = m['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.words}}{%- for m in messages %}{%- if m['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + m['content']}}{%- endif %}{%- if m['role'] == 'assistant' and m['content'] is none %}{%- for call in m['tool_calls']%}{{ call['type'] }}{%- endfor %}{%- endif %}{%- if m['role'] == 'assistant' and m['content'] is not none %}{%- if ns.is_tool %}never{%- else %}{% set content = m['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'never'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"""

PLAIN = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"

ZEPHYR = """{% for m in messages %}
{% if m['role'] == 'user' %}
{{ '<|user|>\\n' + m['content'] + eos_token }}
{% elif m['role'] == 'system' %}
{{ '<|system|>\\n' + m['content'] + eos_token }}
{% elif m['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + m['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

MACRO = """{%- macro turn(role, text, end='<|end|>') -%}
    {{- '<|' ~ role ~ '|>' -}}
    {{ text | trim }}{{ end }}
{%- endmacro -%}
{%- for m in messages -%}
    {%- if loop.index > 3 -%}{% break %}{%- endif -%}
    {%- if m.role == 'system' %}{% continue %}{% endif -%}
    {{ turn(m.role, m.content) if not loop.last else turn(m['role'], text=m.content, end='') }}
{%- else -%}
    nobody
{%- endfor %}
"""

EXPRESSIONS = r"""{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 6 / 4 }} {{ 2.5 * 2 }} {{ 10 / 5 }}
{{ 'a' ~ 1 ~ none ~ true ~ undefined_thing }}|{{ undefined_thing }}|{{ none }}|{{ false }}
{{ 'x' if 1 > 2 else 'y' }}{{ 'z' if false }} {{ not true or 1 == 1 and 2 != 3 }} {{ 'a' < 'b' }} {{ 1 <= 1.0 }}
{{ 'ell' in 'Hello' }} {{ 3 not in [1, 2] }} {{ 'k' in {'k': 1} }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }}
{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abcdef'[1:4] }}{{ 'abcdef'[::-1] }}{{ 'abcdef'[::2] }}{{ 'abcdef'[-2:] }}{{ 'abc'[5:] }}{{ 'äöü'[1:] }}
{{ [3, 1, 2][0] }}{{ [3, 1, 2][1:] | join('-') }}{{ (1, 2) | join }}{{ [1, 2] | length }}{{ 'äö' | length }}{{ [] | first is defined }}
{{ '  x ' | trim }}|{{ 'xxaxx'.strip('x') }}|{{ '\n\na\n'.lstrip('\n') }}|{{ ' \x1c\u3000a'.strip() }}|{{ 'a,b,,c'.split(',') | join('|') }}|{{ 'a,b,c'.split(',', 1) | last }}
{{ 'aBc d'.upper() }}{{ 'aBc d' | lower }}{{ 'aBc d eF' | title }}{{ 'aBc d' | capitalize }}{{ 'banana'.replace('an', 'AN') }}{{ 'b' | replace('b', 'c') }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('ab') }} {{ ', '.join(['a', 'b']) }} {{ {'a': 'b'}.get('a') }} {{ {'a': 'b'}.get('c', 'd') }} {{ {'a': 'b'}.get('c') }}
{% for key, value in {'a': 1, 'b': 2}.items() %}{{ key }}={{ value }}{% if not loop.last %},{% endif %}{% endfor %}
{% for key in {'a': 1, 'b': 2} %}{{ key }}{{ loop.revindex }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}
{% for c in 'xyz' if c != 'y' %}{{ loop.index }}{{ c }}{% endfor %} {% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 1, -2) %}{{ i }}{% endfor %}{% for i in [] %}x{% else %}none{% endfor %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c %} in {{ a }} {% endset %}{{ c }}|{% set ns = namespace(n=0, s='') %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set a = 9 %}{% endfor %}{{ ns.n }}{{ a }}
{{ {'a': [1, 'ü"\n', none, true, 1.5], 'b': {}} | tojson }} {{ [] | tojson }} {{ [1, {'x': 'y'}] | tojson(indent=2) }}
{{ undefined_thing is defined }} {{ undefined_thing | default('d') }} {{ '' | default('e', true) }} {{ 'f' | d('g') }} {{ 1 is number }} {{ 's' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ none is none }} {{ 3 is odd }} {{ 4 is even }} {{ 1 is eq 1 }} {{ 1 is not equalto(2) }} {{ 'a' is in ['a'] }} {{ true is true }} {{ 1 is true }} {{ 0 is false }}
{{ [{'r': 'u', 'c': 1}, {'r': 'a', 'c': 2}] | selectattr('r', 'equalto', 'u') | map(attribute='c') | list | tojson }} {{ [1, '', 2] | select | list | tojson }} {{ [{'r': 1}, {}] | rejectattr('r') | list | length }} {{ '12' | int + 1 }} {{ 3.9 | int }} {{ 5 | string + 'x' }}
{{ "it's" 'joined' }} {{ 'tab\there' }} {{ '\u00e9\x41\'' }} {{ '\d' }} {{ 1_000 }} {{ [1, 2,] | length }} {{ -1 | string }} {{ (1 + 2) * 3 }} {{ true and 'yes' or 'no' }} {{ '' or 'empty' }} {{ 'a' and '' }}|"""

WHITESPACE = """  {% if true %}
    a
  {% endif %}
\tb {% if true %} c {% endif %}  
{%- if true -%}

   d

{%- endif %}

  {{- ' e ' -}}   
  {# gone #}
f{# gone #}
  {%+ if true %} g{% endif +%}
h
  {% set x = 1 %}{% set y = 2 %}
{{ x }}
{% if x %}{{ y }}
{% endif %}
\r\ni\r\n
"""

TEMPLATES = {
    'llama-2': LLAMA2, 'llama-3': LLAMA3, 'llama-3.1': LLAMA31, 'mistral': MISTRAL, 'chatml': CHATML,
    'chatml, open end': CHATML_OPEN_END, 'qwen3': QWEN3, 'gemma': GEMMA, 'gemma-3': GEMMA3, 'deepseek': DEEPSEEK,
    'plain': PLAIN, 'zephyr': ZEPHYR, 'macro': MACRO, 'expressions': EXPRESSIONS, 'white space': WHITESPACE,
}
# Each of these is an error in Jinja, too.
FAILING = {
    'undefined attribute': '{{ nobody.name }}', 'undefined sum': "{{ nobody + 'x' }}", 'wrong sum': "{{ 1 + 'x' }}",
    'not iterable': '{% for x in 1 %}{% endfor %}', 'division': '{{ 1 / 0 }}', 'refused': "{{ raise_exception('no') }}",
    'wrong order': "{{ 1 < 'a' }}", 'not callable': "{{ messages() }}", 'unpacking': '{% set a, b = [1] %}',
}


def main():
    templates = []
    for name, text in {**TEMPLATES, **FAILING}.items():
        template = environment().from_string(text)
        cases = []
        templates.append({'name': name, 'template': text, 'cases': cases})
        simple = name in ('expressions', 'white space') or name in FAILING
        for chat in CHATS[:1] if simple else CHATS:
            for flags in [{}, {'enable_thinking': False}] if name == 'qwen3' else [{}]:
                for prompt in (True, False):
                    case = {'messages': chat, 'flags': flags, 'add_generation_prompt': prompt}
                    try:
                        case['expected'] = template.render(
                            messages=chat, tools=None, documents=None, add_generation_prompt=prompt,
                            bos_token='<s>', eos_token='</s>', **flags)
                    except (Refused, jinja2.exceptions.UndefinedError, TypeError, ValueError, ZeroDivisionError) as error:
                        case['error'] = str(error)
                    assert ('error' in case) >= (name in FAILING), name
                    cases.append(case)
    out = pathlib.Path(__file__).with_name('templates.json')
    out.write_text(json.dumps({'origin': f'jinja2 {jinja2.__version__}, by generate.py', 'templates': templates},
                              ensure_ascii=False, indent=1) + '\n')


if __name__ == '__main__':
    main()
