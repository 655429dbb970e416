"""What SGLang makes of chats, as `ask_vllm` does it: its protocol and its way from messages to ids run, the
server around them is left out."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace


def main() -> None:
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
    from sglang.srt.parser.jinja_template_utils import detect_jinja_template_content_format
    from transformers import AutoTokenizer

    tokenizers = {}
    for line in sys.stdin:
        asked = json.loads(line)
        folder = asked["folder"]
        if folder not in tokenizers:
            tokenizers[folder] = AutoTokenizer.from_pretrained(folder)
        tokenizer = tokenizers[folder]
        tokenizer.chat_template = asked["template"]
        serving = object.__new__(OpenAIServingChat)
        serving.template_manager = SimpleNamespace(
            jinja_template_content_format=detect_jinja_template_content_format(asked["template"]),
            jinja_template_may_reorder_tool_results=False,
            reasoning_config=None,
            python_chat_template=None,
            chat_template_name=None,
        )
        serving.tokenizer_manager = SimpleNamespace(tokenizer=tokenizer, served_model_name="x")
        serving.chat_encoding_spec = None
        serving._encoding_adapter = None
        serving._encode_messages = lambda *_, **__: None
        serving._thinking_requested = lambda _: False
        serving._prompt_text_round_trip_is_lossy = False
        serving._tokenizer_auto_adds_specials = True
        serving.is_minimax_m3 = False
        serving._chat_template_cache = {}
        try:
            request = ChatCompletionRequest.model_validate({"model": "x", **asked["request"]})
            tools = None
            if request.tools and request.tool_choice != "none":
                named = None if isinstance(request.tool_choice, str) else request.tool_choice.function.name
                tools = [
                    tool.model_dump() for tool in request.tools if named in (None, tool.function.name)
                ] or None
            answer = list(serving._apply_jinja_template(request, tools, False).prompt_ids)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the engine refuses
            print(repr(error)[:500], file=sys.stderr)
            answer = None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
