"""How the demo model is shown tools: its own template passes over them.

It becomes the model's `tool_use` template, as transformers names it: a conversation without tools
is rendered by the model's own, as before. The form is that of Hermes, which the parser of that
name reads.
"""

FILE = "additional_chat_templates/tool_use.jinja"

_CALL = '{"name": <function-name>, "arguments": <args-json-object>}'
TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system = messages[0]['content'] %}{%- set said = messages[1:] %}"
    "{%- else %}"
    "{%- set system = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face' %}"
    "{%- set said = messages %}"
    "{%- endif %}"
    "{{- '<|im_start|>system\\n' + system }}"
    "{{- '\\n\\nYou may call one or more of these functions:\\n<tools>' }}"
    "{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\n\\nWrite each call as a JSON object with the function\\'s name and "
    "its arguments:\\n<tool_call>\\n" + _CALL + "\\n</tool_call><|im_end|>\\n' }}"
    "{%- for message in said %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['content'] %}{{- message['content'] }}{%- endif %}"
    "{%- for call in message['tool_calls'] or [] %}"
    "{{- '<tool_call>\\n{\"name\": ' }}{{- call['function']['name'] | tojson }}"
    "{{- ', \"arguments\": ' }}{{- call['function']['arguments'] | tojson }}"
    "{{- '}\\n</tool_call>' }}"
    "{%- endfor %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
