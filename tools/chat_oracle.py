# SPDX-License-Identifier: BSD-3-Clause
"""Asks jinja2, set up as Hugging Face's transformers sets it up, to render chat templates, and stores its answers.

    chat_oracle.py test/data/chat            this script's own templates, one for every construct that is done
    chat_oracle.py FOLDER                    (a folder with *.jinja in it) these; then ANEMONE_TEMPLATES=FOLDER
                                             build/test/test_chat

Needs the PyPI package jinja2.
"""
import datetime
import glob
import json
import os
import random
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1700000000

OWN = {
    "whitespace": """\
{# c #}
    {# a comment with space before it #}
  {% if true %}
    kept
  {%+ if true %}plus{% endif +%}
  {% endif %}
{{- ' a ' -}}   b {%- if true -%}   c   {%- endif %}
  {% set x = 1 %}   d
  text {% if x %} e {% endif %}
{{ x }}
    {{ x }}
{% for m in messages %}
  {{ m.role }}
{% endfor %}

last
""",
    "expressions": """\
{{ (1 + 2 * 3 - 4 // 3) ~ 'a' ~ 5 % 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1.5 + 1 }} {{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }}
{{ not true }} {{ 'a' in 'abc' }} {{ 'x' not in ['x'] }} {{ 1e3 if true else 0.1 }} {{ 0.1 + 0.2 }} {{ 'b' if false }} {{ none }}|{{ nothing }}|
{{ nothing | default('d') }} {{ '' | default('e', true) }} {{ messages[99] is defined }} {{ messages[-1].role if messages else 'none' }}
{{ 'x' if messages else 'y' }} {{ (1, 2) | length }} {{ 'a' 'b' }} {{ "tab\\tq\\"\\x41\\u00e9" }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }} {{ 'a' < 'b' }}
{{ 3 is odd }} {{ 4 is even }} {{ 'a' is string }} {{ [] is iterable }} {{ {} is mapping }} {{ 1 is number }} {{ messages is sequence }} {{ 5 is eq 5 }}
{{ none is none }} {{ nothing is not defined }} {{ 1 is not none }} {{ true is true }} {{ 'x' is in ['x', 'y'] }} {{ 1 == 1.0 }} {{ 1 == '1' }} {{ true and 'z' or 'w' }}
""",
    "strings": """\
{{ 'Hello World'.split() | join('-') }} {{ 'a,b,c'.split(',', 1) | last }} {{ ['b', 'a'] | reverse | list | join }} {{ 'hello world foo' | title }}
{{ 'hELLO wORLD' | capitalize }} {{ 'aXbX' | replace('X', '--') }} {{ 'abc'.replace('b', '') }} {{ 'abc'[1] }} {{ 'abc'[-1:] }} {{ 'abcdef'[::2] }} {{ 'abcdef'[4:1:-1] }}
[{{ ' pad ' | trim ~ '|' ~ '  q'.lstrip() ~ 'r  '.rstrip() ~ 'xxhixx'.strip('x') }}] {{ 'abc' | list | join('.') }} {{ '12' | int + 1 }} {{ '1.5' | float }} {{ 'zz' | int }}
{{ true | string }} {{ 'a'.upper() }} {{ 'ÄÖß'.lower() }} {{ 'abc'.find('c') }} {{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'a-b' | upper }}
{% for m in messages %}{{ m.content[:5] }}|{{ m.content[::-1][1:4] }}|{{ m.content | first }}{{ m.content | last }}|{{ m.content | trim | length }}|{{ m.content.split() | join('_') }}
{% endfor %}
""",
    "statements": """\
{% macro greet(name, mark='!', times=2) %}
  Hello {{ name | upper }}{{ mark }}{{ times }}
{% endmacro %}
{%- macro plain() -%}x{%- endmacro -%}
{% set block %} in {{ messages | length }} block {% endset %}[{{ block }}]
{% for m in messages if m.role != 'system' %}{{ loop.index }}/{{ loop.length }}:{{ loop.revindex }} {% if loop.index > 3 %}{% break %}{% endif %}
{% if m.content | length > 20 %}{% continue %}{% endif %}{{ m['content'] }}{% if not loop.first %}<{{ loop.previtem.role }}{% endif %}{% else %}none{% endfor %}
{{ greet('bob') }}{{ greet('al', times=3) }}{{ greet(mark='?', name='z') }}{{ plain() }}
{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set ns = namespace(x=0) %}{% for i in range(4) %}{% set ns.x = ns.x + i %}{% set a = 7 %}{% endfor %}{{ ns.x }}{{ a }}
{% for i in range(5, 0, -2) %}{{ i }}{{ ',' if not loop.last }}{% endfor %}{% for k, v in {'p': 1, 'q': 2}.items() %}{{ k }}={{ v }};{% endfor %}
{% if false %}no{% elif messages | length > 1 %}many{% elif messages %}one{% else %}few{% endif %}
{% generation %}said{% endgeneration %}
""",
    "lists": """\
{{ {'a': 1, 'b': [1, 'x"y', true, none, 1.5]} | tojson }} {{ 'é\\n"' | tojson }} {{ {'a': {'b': 2}}.a.b }} {{ {'k': 'v'}['k'] }} {{ {'k': 'v'}.get('z', 'w') }}
{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | list | length }}
{{ [1, 2, 3] | select('odd') | list | length }} {{ ([1] + [2]) | last }} {{ dict(a=1) | items | list | length }} {{ messages[1:] | length }} {{ 'role' in (messages | first | default({})) }}
{{ strftime_now('%Y') }} {{ bos_token + eos_token }} {{ tools is none }} {{ strftime_now is defined }} {{ unheard_of is defined }}
""",
    "alternating": """\
{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% else %}{{ ' ' + m['content'].strip() + eos_token }}{% endif %}{% endfor %}
""",
    "thinking": """\
{%- set ns = namespace(last=messages | length - 1) %}
{%- for m in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if m.role == "user" and not(m.content.startswith('<tool>') and m.content.endswith('</tool>')) %}
        {%- set ns.last = index %}{% break %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set content = m.content %}
    {%- set thought = '' %}
    {%- if '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if thought and loop.index0 > ns.last %}{{ '<think>' + thought + '</think>' }}{% endif %}
    {{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
}

FRAGMENTS = ["hello", "<|eot_id|>", "[INST]", "  spaced  ", "\n\nline\n", "é東😀", "</think>", "<think>\nreason\n</think>\n\nanswer", "<tool>x</tool>", "",
             "a b c d e f g h i j k l m n", "{{ x }}", "{% if %}", '"q"', "it's", "\\n", "\u3000x\u00a0", "\r\n", "\t"]


def conversations():
    rnd = random.Random(5)
    out = [[]]
    for k in range(30):
        messages = [{"role": "system", "content": rnd.choice(FRAGMENTS)}] if rnd.random() < 0.4 else []
        for i in range(rnd.randrange(0, 6)):
            role = ("user", "assistant")[i % 2] if rnd.random() < 0.9 else rnd.choice(["user", "tool", "system", "bot"])
            messages.append({"role": role, "content": "".join(rnd.choice(FRAGMENTS) for _ in range(rnd.randrange(0, 4)))})
        out.append(messages)
    return out


def render(text, messages, prompt):
    """The text, or None where the template (or jinja2) refuses."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
    env.filters["tojson"] = lambda x, **options: json.dumps(x, ensure_ascii=False, **options)

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    try:
        return env.from_string(text).render(messages=messages, tools=None, documents=None, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
    except (jinja2.exceptions.TemplateError, TypeError):
        return None


class Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %}: what is inside, as it is."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def main(folder):
    files = sorted(glob.glob(os.path.join(folder, "*.jinja")))
    templates = {os.path.basename(f): open(f, encoding="utf-8", newline="").read() for f in files} or OWN
    talks = conversations()
    answers = [{"name": name, "text": text, "rendered": [render(text, m, bool(i % 2)) for i, m in enumerate(talks)]} for name, text in templates.items()]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "answers.json"), "w", encoding="utf-8") as f:
        json.dump({"now": NOW, "conversations": talks, "templates": answers}, f, ensure_ascii=False, indent=0)
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
