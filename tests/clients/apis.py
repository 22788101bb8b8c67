"""The three APIs through the official SDKs, made to look alike.

A test takes one of them, and says the same to all: make a `client`, `create` a message or get the `final` one of the
library's stream helper, and read its `text`, its `call` of a tool of the client's, its `usage`.
"""

import json
import os

import anthropic
import openai

PLACEHOLDER = "aibridge"  # whoever shows it uses the pool's keys
PROMPT = "What is the weather in Bern?"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


def bridge():
    return os.environ["AIBRIDGE_URL"]


class Messages:
    name, vendor, sdk = "Messages", "anthropic", anthropic
    model, end = "claude-fixture-1", "end_turn"

    def client(self, provider, key=PLACEHOLDER):
        return anthropic.Anthropic(base_url=f"{bridge()}/{provider}", api_key=key, max_retries=0)

    def arguments(self, model=None, tools=False, prompt=PROMPT, since=()):
        arguments = {
            "model": model or self.model,
            "max_tokens": 256,
            "messages": [{"role": "user", "content": prompt}, *since],
        }
        if tools:
            arguments["tools"] = [
                {"name": "get_weather", "description": "Weather now", "input_schema": SCHEMA}
            ]
        return arguments

    def create(self, client, **options):
        return client.messages.create(**self.arguments(**options))

    def raw(self, client, **options):
        return client.messages.with_raw_response.create(**self.arguments(**options))

    def text(self, message):
        return "".join(block.text for block in message.content if block.type == "text")

    def call(self, message):
        """The only call of a tool of the client's: id, name and arguments."""
        assert message.stop_reason == "tool_use", message
        (block,) = (block for block in message.content if block.type == "tool_use")
        return block.id, block.name, block.input

    def returned(self, message, result):
        """The history since the prompt, with the result of the client's own call."""
        call_id = self.call(message)[0]
        result = {"type": "tool_result", "tool_use_id": call_id, "content": result}
        return [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]

    def stop(self, message):
        return message.stop_reason

    def events(self, client, **options):
        return client.messages.create(stream=True, **self.arguments(**options))

    def final(self, client, **options):
        with client.messages.stream(**self.arguments(**options)) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert text == self.text(message), (text, message)
        return message

    def usage(self, message):
        return message.usage.input_tokens, message.usage.output_tokens


class ChatCompletions:
    name, vendor, sdk = "ChatCompletions", "openai", openai
    model, end = "gpt-5.1", "stop"

    def client(self, provider, key=PLACEHOLDER):
        return openai.OpenAI(base_url=f"{bridge()}/{provider}/v1", api_key=key, max_retries=0)

    def arguments(self, model=None, tools=False, prompt=PROMPT, since=()):
        arguments = {
            "model": model or self.model,
            "messages": [{"role": "user", "content": prompt}, *since],
        }
        if tools:
            function = {"name": "get_weather", "description": "Weather now", "parameters": SCHEMA}
            arguments["tools"] = [{"type": "function", "function": function}]
        return arguments

    def create(self, client, **options):
        return client.chat.completions.create(**self.arguments(**options))

    def raw(self, client, **options):
        return client.chat.completions.with_raw_response.create(**self.arguments(**options))

    def text(self, completion):
        return completion.choices[0].message.content or ""

    def call(self, completion):
        assert completion.choices[0].finish_reason == "tool_calls", completion
        (call,) = completion.choices[0].message.tool_calls
        return call.id, call.function.name, json.loads(call.function.arguments)

    def returned(self, completion, result):
        call_id = self.call(completion)[0]
        result = {"role": "tool", "tool_call_id": call_id, "content": result}
        return [completion.choices[0].message, result]

    def stop(self, completion):
        return completion.choices[0].finish_reason

    def events(self, client, **options):
        return client.chat.completions.create(stream=True, **self.arguments(**options))

    def final(self, client, **options):
        usage = {"stream_options": {"include_usage": True}}
        with client.chat.completions.stream(**self.arguments(**options), **usage) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            completion = stream.get_final_completion()
        assert text == self.text(completion), (text, completion)
        return completion

    def usage(self, completion):
        usage = completion.usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
        return usage.prompt_tokens, usage.completion_tokens


class Responses(ChatCompletions):
    name, end = "Responses", "completed"

    def arguments(self, model=None, tools=False, prompt=PROMPT, since=()):
        prompt = {"role": "user", "content": prompt}
        arguments = {"model": model or self.model, "input": [prompt, *since] if since else prompt["content"]}
        if tools:
            function = {"name": "get_weather", "description": "Weather now", "parameters": SCHEMA}
            arguments["tools"] = [{"type": "function", "strict": False, **function}]
        return arguments

    def create(self, client, **options):
        return client.responses.create(**self.arguments(**options))

    def raw(self, client, **options):
        return client.responses.with_raw_response.create(**self.arguments(**options))

    def text(self, response):
        return response.output_text

    def call(self, response):
        assert response.status == "completed", response
        (call,) = (item for item in response.output if item.type == "function_call")
        return call.call_id, call.name, json.loads(call.arguments)

    def returned(self, response, result):
        call_id = self.call(response)[0]
        result = {"type": "function_call_output", "call_id": call_id, "output": result}
        return [*response.output, result]

    def stop(self, response):
        return response.status

    def events(self, client, **options):
        return client.responses.create(stream=True, **self.arguments(**options))

    def final(self, client, **options):
        arguments = self.arguments(**options)
        with client.responses.stream(**arguments) as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            response = stream.get_final_response()
        assert "".join(deltas) == self.text(response), (deltas, response)
        return response

    def usage(self, response):
        usage = response.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens, usage
        return usage.input_tokens, usage.output_tokens


APIS = MESSAGES, CHAT, RESPONSES = Messages(), ChatCompletions(), Responses()
